//! The program `templar`: everything is in the library of this crate, so that tests and the reference see it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    templar_cli::main()
}
