//! Opens devices by their names, and keeps the one that a process computes with.

use std::sync::{Arc, PoisonError, RwLock};

use templar_manifest::Arithmetic;

use crate::admission::{Admitted, OpenError, OpenOptions};
use crate::choice::{DeviceChoice, DeviceChoices};
use crate::cpu::Cpu;
use crate::device::Device;
#[cfg(feature = "opencl")]
use crate::opencl;
use crate::report::{ArithmeticPath, DeviceKind, DeviceReport};

/// The kinds of GPUs that this program has code for, by the features that it was built with.
pub fn built_with() -> &'static [&'static str] {
    if cfg!(feature = "opencl") { &["opencl"] } else { &[] }
}

/// The devices beside the CPU, with what they report about themselves. Empty where there is no driver, or no code
/// for one.
///
/// # Errors
/// A driver that is there and fails.
pub fn list() -> Result<Vec<DeviceReport>, OpenError> {
    #[cfg(feature = "opencl")]
    {
        opencl::list()
    }
    #[cfg(not(feature = "opencl"))]
    {
        Ok(Vec::new())
    }
}

/// A device that was chosen.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The device.
    pub device: Arc<dyn Device>,
    /// For `auto`: each GPU that is there and was passed over, with the reason.
    pub passed_over: Vec<String>,
}

/// Opens the device of a choice, and proves it unless it is the CPU.
///
/// # Errors
/// A device that was named cannot be had. `auto` always gives a device.
pub fn open(choice: DeviceChoice, options: &OpenOptions) -> Result<Chosen, OpenError> {
    let cpu = |passed_over| Chosen { device: Arc::new(Cpu::default()), passed_over };
    match choice {
        DeviceChoice::Cpu => Ok(cpu(Vec::new())),
        DeviceChoice::Auto => Ok(best(options).unwrap_or_else(cpu)),
        DeviceChoice::OpenCl(_) => Ok(Chosen { device: admit(choice, options)?.device, passed_over: Vec::new() }),
    }
}

/// Opens all devices of a choice, and gives the helpers beside what [`open`] gives for the first device.
///
/// # Errors
/// A device that was named cannot be had.
pub fn open_all(choices: &DeviceChoices, options: &OpenOptions) -> Result<(Chosen, Vec<Arc<dyn Device>>), OpenError> {
    let helper = |helper: &DeviceChoice| Ok(open(*helper, options)?.device);
    Ok((open(choices.first, options)?, choices.helpers.iter().map(helper).collect::<Result<_, OpenError>>()?))
}

/// Opens and proves a device beside the CPU, and says how it was proven.
///
/// # Errors
/// The device cannot be had, or does not pass.
#[cfg(feature = "opencl")]
pub fn admit(choice: DeviceChoice, options: &OpenOptions) -> Result<Admitted, OpenError> {
    opencl::open(choice, options)
}

/// Opens and proves a device beside the CPU, and says how it was proven.
///
/// # Errors
/// [`OpenError::NotBuilt`]: there is no code for such devices.
#[cfg(not(feature = "opencl"))]
pub fn admit(choice: DeviceChoice, _options: &OpenOptions) -> Result<Admitted, OpenError> {
    Err(OpenError::NotBuilt(choice, "opencl"))
}

/// The first GPU that passes with the arithmetic of its hardware, or the reasons why none does. A GPU whose
/// arithmetic must be done by integers is slower than the processor.
fn best(options: &OpenOptions) -> Result<Chosen, Vec<String>> {
    let reports = list().map_err(|error| vec![error.to_string()])?;
    let mut passed_over = Vec::new();
    for report in reports.into_iter().filter(|report| report.kind == DeviceKind::Gpu) {
        match admit(report.choice, options) {
            Ok(admitted) if admitted.path != ArithmeticPath::Integers => {
                return Ok(Chosen { device: admitted.device, passed_over });
            }
            Ok(_) => passed_over.push(format!("{} needs integers for its arithmetic, which is slow", report.title())),
            Err(error) => passed_over.push(error.to_string()),
        }
    }
    Err(passed_over)
}

/// The devices of [`helpers_for_arithmetic`].
static HELPERS: RwLock<Vec<Arc<dyn Device>>> = RwLock::new(Vec::new());

/// The device of [`for_arithmetic`]; the CPU until [`set_default_device`] names another.
static DEFAULT: RwLock<Option<Arc<dyn Device>>> = RwLock::new(None);

/// Says for the whole process which device computes from now on, wherever none is given. For whoever configures a
/// program; whoever has a device already keeps it. No result depends on the choice.
pub fn set_default_device(device: Arc<dyn Device>) {
    *DEFAULT.write().unwrap_or_else(PoisonError::into_inner) = Some(device);
}

/// Says for the whole process which further devices take micro-batches of training steps from now on, beside the
/// default device. For whoever configures a program. No result depends on the choice.
pub fn set_helpers(devices: Vec<Arc<dyn Device>>) {
    *HELPERS.write().unwrap_or_else(PoisonError::into_inner) = devices;
}

/// The devices of [`set_helpers`], with the arithmetic of a genesis, as far as they can compute it.
pub fn helpers_for_arithmetic(arithmetic: Arithmetic) -> Vec<Arc<dyn Device>> {
    let helpers = HELPERS.read().unwrap_or_else(PoisonError::into_inner);
    let computes = |device: &Arc<dyn Device>| device.arithmetic() == arithmetic;
    helpers.iter().map(|device| with_arithmetic(device, arithmetic)).filter(computes).collect()
}

/// The device of [`set_default_device`], else the CPU, with the arithmetic of a genesis.
///
/// A device that cannot compute it is given as it is: whoever asked for it is refused by name, and nothing is computed
/// on another device in silence. A name that no version of [`Arithmetic`] knows is refused when the genesis is decoded.
pub fn for_arithmetic(arithmetic: Arithmetic) -> Arc<dyn Device> {
    match DEFAULT.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
        Some(device) => with_arithmetic(device, arithmetic),
        None => Arc::new(Cpu::default().computing(arithmetic)),
    }
}

/// The device with the arithmetic, or as it is if it has no other.
fn with_arithmetic(device: &Arc<dyn Device>, arithmetic: Arithmetic) -> Arc<dyn Device> {
    let other = || device.with_arithmetic(arithmetic).unwrap_or_else(|| Arc::clone(device));
    if device.arithmetic() == arithmetic { Arc::clone(device) } else { other() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dry::DryDevice;

    #[test]
    fn the_cpu_can_always_be_had() {
        for choice in [DeviceChoice::Cpu, DeviceChoice::Auto] {
            let device = open(choice, &OpenOptions::default()).unwrap().device;
            assert_eq!(device.arithmetic(), Arithmetic::F32);
            for arithmetic in Arithmetic::ALL {
                let other = with_arithmetic(&device, arithmetic);
                assert_eq!(other.arithmetic(), arithmetic);
                assert_eq!(with_arithmetic(&other, Arithmetic::F32).name(), device.name());
            }
        }
    }

    #[test]
    fn a_device_without_an_arithmetic_is_given_as_it_is() {
        let device: Arc<dyn Device> = Arc::new(DryDevice::of(Arc::new(Cpu::best())));
        let given = with_arithmetic(&device, Arithmetic::I8x2);
        assert_eq!((given.name(), given.arithmetic()), (device.name(), Arithmetic::F32));
    }
}
