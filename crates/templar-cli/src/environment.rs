//! The environment: the one file of the workspace that reads it.
//!
//! | variable | says |
//! |---|---|
//! | `TEMPLAR_HOME` | the home, where `--home` does not |
//! | `HOME` | where `.templar` is, where neither does |
//! | `TEMPLAR_ISA` | the instruction set of the kernels: `soft`, `avx2`, `avx512`, `neon`; no result depends on it |
//! | `TEMPLAR_RECOMPUTE` | that training keeps each layer's input alone: less memory, more work; no result depends on it |
//! | `NO_COLOR` | no colour |
//!
//! `RAYON_NUM_THREADS` is read by rayon itself; no result depends on it either.
#![allow(clippy::disallowed_methods, reason = "this is the file that reads the environment")]

use std::env;
use std::path::PathBuf;

/// What the environment says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Environment {
    /// The home, where the command line names none.
    pub home: Option<PathBuf>,
    /// The instruction set that is asked for.
    pub isa: Option<String>,
    /// Whether activations are recomputed.
    pub recompute: bool,
    /// Whether colour is not wanted.
    pub no_color: bool,
}

impl Environment {
    /// Reads it.
    pub(crate) fn read() -> Self {
        let filled = |name| env::var_os(name).filter(|value| !value.is_empty());
        let user = || filled("HOME").map(|home| PathBuf::from(home).join(".templar"));
        Self {
            home: filled("TEMPLAR_HOME").map(PathBuf::from).or_else(user),
            isa: filled("TEMPLAR_ISA").map(|isa| isa.to_string_lossy().into_owned()),
            recompute: filled("TEMPLAR_RECOMPUTE").is_some(),
            no_color: filled("NO_COLOR").is_some(),
        }
    }
}
