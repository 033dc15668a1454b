//! The argument of the commands that compute: on which device.
//!
//! The command line is stronger than the environment. No result depends on the choice.

use std::sync::Arc;

use templar_device::{DeviceCache, DeviceChoices, OpenOptions, open_all, set_default_device, set_helpers};
use templar_home::device_cache::DeviceFiles;

use crate::error::{Code, CommandError};
use crate::invocation::Invocation;

/// The device of a command.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Compute {
    /// Compute on this device: auto (a GPU that passes its test, else the CPU), cpu, or a name that `templar
    /// device list` shows. After a comma come further devices, which take micro-batches of training steps
    /// [default: TEMPLAR_DEVICE, or else auto]
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceChoices>,
}

impl Compute {
    /// Opens the device that the command line or the environment names. Everything that this process computes from
    /// now on is computed there.
    pub(crate) fn choose(&self, invocation: &Invocation) -> Result<(), CommandError> {
        let printer = invocation.printer;
        let choices = choices(self.device.clone(), invocation)?;
        let (chosen, helpers) = open_all(&choices, &options(invocation))?;
        for reason in &chosen.passed_over {
            printer.warn(format_args!("a GPU is not used: {reason}"));
        }
        if chosen.device.name() != templar_device::for_arithmetic(chosen.device.arithmetic()).name() {
            printer.talk(format_args!("computing on {}", chosen.device.name()));
        }
        for helper in &helpers {
            printer.talk(format_args!("and micro-batches on {}", helper.name()));
        }
        set_default_device(chosen.device);
        set_helpers(helpers);
        Ok(())
    }
}

/// The choice of the command line, else of the environment, else `auto`.
pub(crate) fn choices(named: Option<DeviceChoices>, invocation: &Invocation) -> Result<DeviceChoices, CommandError> {
    let said = invocation.device.clone().map_err(|error| CommandError::says(Code::Usage, error))?;
    Ok(named.or(said).unwrap_or_default())
}

/// How devices are opened: with the user's cache of compiled programs and passed proofs.
pub(crate) fn options(invocation: &Invocation) -> OpenOptions {
    let files = |directory| -> Arc<dyn DeviceCache> { Arc::new(DeviceFiles::new(directory)) };
    OpenOptions { cache: invocation.device_cache.clone().map(files), ..OpenOptions::default() }
}
