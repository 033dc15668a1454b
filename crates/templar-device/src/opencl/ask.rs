//! Asks a device of OpenCL what it is.

use opencl3::device::{
    CL_DEVICE_TYPE_CPU, CL_DEVICE_TYPE_GPU, CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT, CL_FP_DENORM, CL_FP_FMA,
    CL_FP_INF_NAN, CL_FP_ROUND_TO_NEAREST, Device as ClDevice,
};
use opencl3::error_codes::ClError;
use opencl3::platform::Platform;

use crate::choice::DeviceChoice;
use crate::report::{DeviceKind, DeviceReport, FloatReport};

/// The report of a device that is chosen by this name.
pub(super) fn report(choice: DeviceChoice, device: &ClDevice) -> Result<DeviceReport, ClError> {
    let platform = Platform::new(device.platform()?);
    let single = device.single_fp_config()?;
    let says = |what: u64| single & what == what;
    let kind = match device.dev_type()? {
        kind if kind & CL_DEVICE_TYPE_GPU != 0 => DeviceKind::Gpu,
        kind if kind & CL_DEVICE_TYPE_CPU != 0 => DeviceKind::Cpu,
        _ => DeviceKind::Other,
    };
    Ok(DeviceReport {
        choice,
        name: device.name()?.trim().to_owned(),
        platform: format!("{} {}", platform.name()?.trim(), platform.version()?.trim()),
        driver: device.driver_version()?.trim().to_owned(),
        kind,
        compute_units: device.max_compute_units()?,
        memory_bytes: device.global_mem_size()?,
        buffer_bytes: device.max_mem_alloc_size()?,
        floats: FloatReport {
            has_fma: says(CL_FP_FMA | CL_FP_ROUND_TO_NEAREST | CL_FP_INF_NAN),
            has_subnormals: says(CL_FP_DENORM),
            has_division: says(CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT),
            has_f64: device.double_fp_config().unwrap_or(0) & CL_FP_ROUND_TO_NEAREST != 0,
        },
        group_threads: device.max_work_group_size()? as u64,
        local_bytes: device.local_mem_size()?,
        native_floats: device.native_vector_width_float()?,
        is_available: device.available()? && device.compiler_available()? && device.endian_little()?,
    })
}
