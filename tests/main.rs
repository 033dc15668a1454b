//! The tests of the whole: what no crate can test alone.
//!
//! One binary, so that it is linked once. `architecture` holds the workspace to its layers, `vectors` the example
//! manifests to the program and to their specification, `attacks` every rule to the input that breaks it. `cli` runs the
//! program as people do.

mod architecture;
mod attacks;
mod cli;
mod demo;
mod readme;
mod vectors;
