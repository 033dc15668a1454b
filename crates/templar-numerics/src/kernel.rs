//! How a kernel outside matrix products is made: plain Rust, written once, compiled per instruction set.
//!
//! Invariant: the compiler neither reassociates nor contracts floating-point operations, and these kernels use
//! no fused multiply-add, so every compiled form gives the same bits; wider vectors only make it faster.

/// Turns `fn name(args) -> R { body }` into `pub(crate) fn name(isa: Isa, args) -> R`, with `body` compiled once for
/// the baseline (soft and NEON), once for AVX2 and once for AVX-512.
macro_rules! kernel {
    ($(#[$attribute:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $return:ty)? $body:block) => {
        $(#[$attribute])*
        pub(crate) fn $name(isa: $crate::isa::Isa, $($arg: $type),*) $(-> $return)? {
            #[inline(always)]
            fn plain($($arg: $type),*) $(-> $return)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            fn avx512($($arg: $type),*) $(-> $return)? { plain($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($arg: $type),*) $(-> $return)? { plain($($arg),*) }
            match isa {
                // SAFETY: an Isa other than Soft comes from a `Kernels`, which checked that the machine has it.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx2 => unsafe { avx2($($arg),*) },
                _ => plain($($arg),*),
            }
        }
    };
}

pub(crate) use kernel;

/// From how many elements on a kernel that computes exponentials is worth another thread.
pub(crate) const PARALLEL_EXP: usize = 1 << 15;
/// From how many elements on a kernel that mostly waits for memory is worth another thread.
pub(crate) const PARALLEL_COPY: usize = 1 << 17;

/// How many elements, whole rows of `width`, one task takes of `elements`: all of them below `parallel_from`.
pub(crate) fn grain(elements: usize, width: usize, parallel_from: usize) -> usize {
    let tasks = match rayon::current_num_threads() {
        1 => 1,
        _ if elements < parallel_from => 1,
        threads => threads.saturating_mul(2),
    };
    let width = width.max(1);
    elements.div_ceil(tasks).div_ceil(width).max(1).saturating_mul(width)
}
