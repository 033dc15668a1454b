//! The names of devices that people type.

use std::fmt;
use std::str::FromStr;

/// A device by its name: `auto`, `cpu`, or `opencl:0`. A name without a number means the first device of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first GPU that is there and passes its test, else the CPU.
    #[default]
    Auto,
    /// The processor of the host.
    Cpu,
    /// A device of OpenCL by its number.
    OpenCl(usize),
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::OpenCl(index) => write!(f, "opencl:{index}"),
        }
    }
}

/// A name that no device has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no device is called {0:?}: the names are auto, cpu, and opencl:N with a number from 0")]
pub struct UnknownDevice(String);

impl FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Self, UnknownDevice> {
        let unknown = || UnknownDevice(name.to_owned());
        match name.split_once(':') {
            None if name == "auto" => Ok(Self::Auto),
            None if name == "cpu" => Ok(Self::Cpu),
            None if name == "opencl" => Ok(Self::OpenCl(0)),
            Some(("opencl", number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                number.parse().map(Self::OpenCl).map_err(|_| unknown())
            }
            _ => Err(unknown()),
        }
    }
}

/// The devices of a process, by names with commas between them. The first one computes everything, and the others take
/// micro-batches of training steps beside it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceChoices {
    /// The device that computes.
    pub first: DeviceChoice,
    /// The devices that take micro-batches; the same name again stands for a second program on the same device.
    pub helpers: Vec<DeviceChoice>,
}

impl fmt::Display for DeviceChoices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        self.helpers.iter().try_for_each(|helper| write!(f, ",{helper}"))
    }
}

impl FromStr for DeviceChoices {
    type Err = UnknownDevice;

    fn from_str(names: &str) -> Result<Self, UnknownDevice> {
        let all = names.split(',').map(str::parse).collect::<Result<Vec<DeviceChoice>, _>>()?;
        match &all[..] {
            [first] => Ok(Self { first: *first, helpers: Vec::new() }),
            // A device that is chosen by itself has no helpers.
            [first, helpers @ ..] if !all.contains(&DeviceChoice::Auto) => {
                Ok(Self { first: *first, helpers: helpers.to_vec() })
            }
            _ => Err(UnknownDevice(names.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_devices_are_a_first_one_and_its_helpers() {
        for names in ["auto", "cpu", "opencl:0,opencl:1", "opencl:0,opencl:0,cpu"] {
            let choices: DeviceChoices = names.parse().unwrap();
            assert_eq!((choices.to_string(), choices.helpers.len()), (names.to_owned(), names.matches(',').count()));
        }
        for names in ["", "cpu,", ",cpu", "auto,cpu", "cpu,auto", "cpu,gpu"] {
            assert!(names.parse::<DeviceChoices>().is_err(), "{names}");
        }
    }

    #[test]
    fn names_are_read_as_they_are_shown() {
        for (name, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("opencl:0", DeviceChoice::OpenCl(0)),
            ("opencl:12", DeviceChoice::OpenCl(12)),
        ] {
            assert_eq!(name.parse(), Ok(choice));
            assert_eq!(choice.to_string(), name);
        }
        assert_eq!("opencl".parse(), Ok(DeviceChoice::OpenCl(0)));
        for name in ["", "gpu", "cpu:0", "opencl:", "opencl:-1", "opencl:+1", "opencl:99999999999999999999", "OpenCL"] {
            assert_eq!(name.parse::<DeviceChoice>(), Err(UnknownDevice(name.to_owned())), "{name}");
        }
    }
}
