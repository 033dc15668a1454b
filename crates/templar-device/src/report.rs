//! The report of a device about itself, and which arithmetic it may be tried with.

use std::fmt;

use crate::choice::DeviceChoice;

/// The kind of hardware that a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A graphics processor.
    Gpu,
    /// A processor of the host, through an OpenCL of its own.
    Cpu,
    /// Anything else.
    Other,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gpu => "GPU",
            Self::Cpu => "CPU",
            Self::Other => "accelerator",
        })
    }
}

/// Where the arithmetic of a device comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArithmeticPath {
    /// Every operation is the hardware's.
    Hardware,
    /// Division and square root are computed with integers, everything else by the hardware.
    IntegerDivision,
    /// All arithmetic of binary32 is computed with integers. It is some hundred times slower.
    Integers,
}

impl fmt::Display for ArithmeticPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hardware => "hardware",
            Self::IntegerDivision => "hardware, division by integers",
            Self::Integers => "integers",
        })
    }
}

/// The report of a device. Whether it is true is another question, which the self-test answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceReport {
    /// The name by which it is chosen.
    pub choice: DeviceChoice,
    /// The name of the device.
    pub name: String,
    /// The platform, with its version.
    pub platform: String,
    /// The version of the driver.
    pub driver: String,
    /// The kind of hardware.
    pub kind: DeviceKind,
    /// Units that compute at the same time.
    pub compute_units: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of the largest buffer.
    pub buffer_bytes: u64,
    /// The abilities of the arithmetic.
    pub floats: FloatReport,
    /// Threads of the largest group.
    pub group_threads: u64,
    /// Bytes of memory that the threads of a group share.
    pub local_bytes: u64,
    /// Numbers of binary32 in a register of the hardware; 1 where each thread has registers of its own.
    pub native_floats: u32,
    /// Whether the device can be used and has a compiler.
    pub is_available: bool,
}

/// The report of a device about its arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloatReport {
    /// Fused multiply-adds in hardware, rounded to nearest, with infinities and NaN.
    pub has_fma: bool,
    /// Subnormal numbers are kept.
    pub has_subnormals: bool,
    /// Division and square root are correctly rounded.
    pub has_division: bool,
    /// Binary64, for the norm of a gradient.
    pub has_f64: bool,
}

/// Why a device cannot be tried at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The driver says that the device or its compiler cannot be used.
    #[error("it is not available, or has no compiler")]
    Unavailable,
    /// A group cannot have as many threads as the kernels need.
    #[error("a group has at most {found} threads, where the kernels need {needed}")]
    Threads {
        /// Threads of the largest group.
        found: u64,
        /// Threads that the kernels need.
        needed: u64,
    },
    /// A group has less shared memory than the kernels need.
    #[error("a group shares {found} bytes, where the kernels need {needed}")]
    LocalMemory {
        /// Bytes that a group shares.
        found: u64,
        /// Bytes that the kernels need.
        needed: u64,
    },
}

/// Threads of the largest group that a kernel has.
const GROUP_THREADS: u64 = 256;
/// Bytes of local memory of the kernels that need most, those of attention.
const LOCAL_BYTES: u64 = 26_880;

impl DeviceReport {
    /// The name by which a device is chosen and shown: its number, then what it is.
    pub fn title(&self) -> String {
        format!("{} ({})", self.choice, self.name)
    }

    /// Everything that decides what the driver compiles: another driver or device has another identity.
    #[cfg(feature = "opencl")]
    pub(crate) fn identity(&self) -> String {
        [&self.platform, &self.name, &self.driver].map(|part| part.replace('\n', " ")).join("\n")
    }

    /// The first arithmetic to try. An ability that is not reported is not even tried with the hardware.
    ///
    /// # Errors
    /// A device that cannot run the kernels whatever their arithmetic.
    pub fn path(&self) -> Result<ArithmeticPath, Unusable> {
        if !self.is_available {
            return Err(Unusable::Unavailable);
        }
        if self.group_threads < GROUP_THREADS {
            return Err(Unusable::Threads { found: self.group_threads, needed: GROUP_THREADS });
        }
        if self.local_bytes < LOCAL_BYTES {
            return Err(Unusable::LocalMemory { found: self.local_bytes, needed: LOCAL_BYTES });
        }
        Ok(match self.floats {
            FloatReport { has_fma: false, .. } | FloatReport { has_subnormals: false, .. } => ArithmeticPath::Integers,
            FloatReport { has_division: false, .. } => ArithmeticPath::IntegerDivision,
            _ => ArithmeticPath::Hardware,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The report of a device that can do everything.
    fn able() -> DeviceReport {
        DeviceReport {
            choice: DeviceChoice::OpenCl(0),
            name: "a device".to_owned(),
            platform: "a platform".to_owned(),
            driver: "1".to_owned(),
            kind: DeviceKind::Gpu,
            compute_units: 1,
            memory_bytes: 1 << 30,
            buffer_bytes: 1 << 28,
            floats: FloatReport { has_fma: true, has_subnormals: true, has_division: true, has_f64: true },
            group_threads: 1024,
            local_bytes: 48 << 10,
            native_floats: 1,
            is_available: true,
        }
    }

    #[test]
    fn what_is_not_reported_is_not_tried_with_the_hardware() {
        let path = |change: fn(&mut FloatReport)| {
            let mut report = able();
            change(&mut report.floats);
            report.path().unwrap()
        };
        assert_eq!(path(|_| ()), ArithmeticPath::Hardware);
        assert_eq!(path(|floats| floats.has_division = false), ArithmeticPath::IntegerDivision);
        assert_eq!(path(|floats| floats.has_subnormals = false), ArithmeticPath::Integers);
        assert_eq!(path(|floats| floats.has_fma = false), ArithmeticPath::Integers);
        assert_eq!(path(|floats| floats.has_f64 = false), ArithmeticPath::Hardware);
    }

    #[test]
    fn a_device_that_cannot_run_the_kernels_is_refused_by_name() {
        let refused = |change: fn(&mut DeviceReport)| {
            let mut report = able();
            change(&mut report);
            report.path().unwrap_err()
        };
        assert_eq!(refused(|report| report.is_available = false), Unusable::Unavailable);
        assert_eq!(refused(|report| report.group_threads = 128), Unusable::Threads { found: 128, needed: 256 });
        assert!(matches!(refused(|report| report.local_bytes = 16 << 10), Unusable::LocalMemory { .. }));
    }
}
