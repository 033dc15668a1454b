//! The tests of the whole program, which no single crate can test alone.
//!
//! All of them are one binary, so that it is linked once. `architecture` compares the workspace with its
//! layers. `vectors` compares the example manifests with the program and with their specification. `attacks`
//! checks every rule with an input that breaks it. `cli` runs the program as people do.

mod architecture;
mod attacks;
mod cli;
mod demo;
mod readme;
mod vectors;
