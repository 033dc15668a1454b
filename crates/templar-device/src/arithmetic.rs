//! From the name of an arithmetic to a device that computes it.

use std::sync::Arc;

use templar_manifest::Arithmetic;

use crate::cpu::Cpu;
use crate::device::Device;

/// A device of this machine that computes the arithmetic of a genesis.
///
/// The match is exhaustive: an arithmetic that is added to `templar-manifest` does not compile until a device
/// is chosen for it here. A name that no version of the enum knows is refused when the genesis is decoded.
pub fn for_arithmetic(arithmetic: Arithmetic) -> Arc<dyn Device> {
    match arithmetic {
        Arithmetic::F32 => Arc::new(Cpu::default()),
    }
}
