//! The program as people and scripts run it: a whole run by hand in one home, and everything that can go wrong on the way.
//!
//! Runs are tiny (one layer, pages of 32 tokens), so that a window takes milliseconds; what is compared are hashes, exit
//! codes and the words of errors. The library's own tests say why the numbers are right.

mod arguments;
mod evidence;
mod full;
mod home;
mod liars;
mod network;
mod origin;
mod power;
mod resume;
mod sim;
mod store;
mod tampering;
mod validators;
mod walk;
