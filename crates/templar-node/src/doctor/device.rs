//! Checks of the device that computes.

use templar_device::{DeviceChoices, OpenOptions, open_all};

use super::finding::{DoctorFinding, error_chain};

/// Opens the device as a node would, which compiles and tests it unless it has passed before.
pub(super) fn look_at_device((choices, options): &(DeviceChoices, OpenOptions), say: &mut impl FnMut(DoctorFinding)) {
    match open_all(choices, options) {
        Ok((chosen, helpers)) => {
            for reason in &chosen.passed_over {
                say(DoctorFinding::warn("device", reason.clone(), "`templar device test` says more"));
            }
            let names = std::iter::once(&chosen.device).chain(&helpers).map(|device| device.name());
            say(DoctorFinding::ok("device", format!("computes on {}", names.collect::<Vec<_>>().join(" and "))));
        }
        Err(error) => say(DoctorFinding::fail(
            "device",
            error_chain(&error),
            "`templar device test` says more; --device cpu computes the same results",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn a_device_that_is_not_there_is_named() {
        let look = |name: &str| {
            let mut findings = Vec::new();
            look_at_device(&(name.parse().unwrap(), OpenOptions::default()), &mut |finding| findings.push(finding));
            findings.pop().unwrap()
        };
        assert_eq!(look("cpu").level, Level::Ok);
        let absent = look("cpu,opencl:999");
        assert_eq!(absent.level, Level::Fail);
        assert!(absent.text.contains("opencl:999") || absent.text.contains("no OpenCL"), "{}", absent.text);
    }
}
