//! The fuzz targets under libFuzzer: `FUZZ_TARGET=name`, and libFuzzer's own arguments.
//!
//! Without a sanitiser, because the crates that decode have no unsafe code. So the stable toolchain builds it;
//! `.ci/long fuzz` has the flags. With cargo-fuzz: `FUZZ_TARGET=entry cargo fuzz run --sanitizer none fuzz` in
//! this folder. With `FUZZ_SEEDS=folder` as well, the target's valid inputs are first written into that folder.
#![no_main]

mod targets;

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use targets::{TARGETS, Target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("FUZZ_TARGET is one of {names:?}"))
});

fuzz_target!(
    init: {
        // Libraries that panic are caught where they are called, so a panic alone is no finding. One that reaches the
        // fuzzer is.
        std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
        if let Ok(folder) = std::env::var("FUZZ_SEEDS") {
            for (index, seed) in (TARGET.seeds)().iter().enumerate() {
                std::fs::write(Path::new(&folder).join(format!("seed-{index}")), seed).expect("the folder is writable");
            }
        }
    },
    |data: &[u8]| (TARGET.run)(data)
);
