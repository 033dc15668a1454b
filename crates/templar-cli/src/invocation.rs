//! One run of the program: the home that it works on, the settings of the environment for network and device, and
//! the printer.

use std::path::PathBuf;

use templar_device::DeviceChoices;
use templar_home::access::Access;
use templar_node::settings::NetworkSettings;

use crate::error::{Code, CommandError};
use crate::printer::Printer;

/// The home and the printer of a command.
#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    /// The directory of the home, which need not exist; `None` when neither a flag nor the environment names one.
    pub root: Option<PathBuf>,
    /// The network settings of the environment.
    pub network: NetworkSettings,
    /// Whether the environment says with how many threads to compute.
    pub chooses_threads: bool,
    /// The device that the environment names, or a sentence about a name that no device has.
    pub device: Result<Option<DeviceChoices>, String>,
    /// The directory for programs that were compiled for devices.
    pub device_cache: Option<PathBuf>,
    /// The printer of all output.
    pub printer: Printer,
}

impl Invocation {
    /// The directory of the home.
    pub(crate) fn root(&self) -> Result<&PathBuf, CommandError> {
        self.root.as_ref().ok_or_else(|| {
            CommandError::says(Code::NoHome, "no templar home is named, and this user has no home directory")
                .hint("name one with --home DIR or TEMPLAR_HOME")
        })
    }

    /// Opens the home to read.
    pub(crate) fn read(&self) -> Result<Access, CommandError> {
        Ok(Access::read(self.root()?)?)
    }

    /// Opens the home to write.
    pub(crate) fn write(&self) -> Result<Access, CommandError> {
        Ok(Access::write(self.root()?)?)
    }
}
