//! Tests of the whole workspace, in one binary, so that it is linked once.
//!
//! * `architecture`: the crates keep to their layers, and the files to their form.
//! * `vectors`: the example manifests agree with the program and with their specification.
//! * `attacks`: every rule refuses an input that breaks it, with the documented error.
//! * `fuzz`: no input makes a decoder panic.
//! * `toolchain`: the stated Rust version is enough.
//! * `verifier`: a second implementation of the rules, in Python, agrees.
//! * `cli`, `demo` and `readme`: the program, run as people run it.

mod architecture;
mod attacks;
mod cli;
mod demo;
mod fuzz;
mod readme;
mod toolchain;
mod vectors;
mod verifier;
