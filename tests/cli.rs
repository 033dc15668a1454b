//! The program as people and scripts run it: a whole run by hand in one home, and everything that can go wrong.
//!
//! The runs are tiny (one layer, pages of 32 tokens), so a window takes milliseconds. The tests compare hashes,
//! exit codes and the words of errors. The tests of the libraries check that the numbers are right.

mod ahead;
mod arguments;
mod damage;
mod eval;
mod evidence;
mod full;
mod home;
mod homes;
mod imports;
mod liars;
mod models;
mod network;
mod origin;
mod out;
mod power;
mod resume;
#[cfg(unix)]
mod signals;
mod sim;
mod snapshots;
mod store;
mod tables;
mod tampering;
mod validators;
mod walk;
