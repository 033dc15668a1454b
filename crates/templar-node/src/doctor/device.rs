//! Checks of the device that computes.

use templar_device::{DeviceChoice, OpenOptions, open};

use super::finding::{DoctorFinding, error_chain};

/// Opens the device as a node would, which compiles and tests it unless it has passed before.
pub(super) fn look_at_device((choice, options): &(DeviceChoice, OpenOptions), say: &mut impl FnMut(DoctorFinding)) {
    match open(*choice, options) {
        Ok(chosen) => {
            for reason in &chosen.passed_over {
                say(DoctorFinding::warn("device", reason.clone(), "`templar device test` says more"));
            }
            say(DoctorFinding::ok("device", format!("computes on {}", chosen.device.name())));
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
        let look = |choice| {
            let mut findings = Vec::new();
            look_at_device(&(choice, OpenOptions::default()), &mut |finding| findings.push(finding));
            findings.pop().unwrap()
        };
        assert_eq!(look(DeviceChoice::Cpu).level, Level::Ok);
        let absent = look(DeviceChoice::OpenCl(999));
        assert_eq!(absent.level, Level::Fail);
        assert!(absent.text.contains("opencl:999") || absent.text.contains("no OpenCL"), "{}", absent.text);
    }
}
