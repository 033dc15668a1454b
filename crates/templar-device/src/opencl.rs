//! OpenCL: GPUs of every vendor, and processors through an OpenCL of their own (pocl).
//!
//! OpenCL is loaded when it is first asked for, so a program with this feature runs where there is none. [`list`]
//! says which devices there are. [`open`] gives one of them, after it has been proven: it must report what the
//! arithmetic needs, and then pass the [`self_test`](crate::self_test) with wild numbers and a whole training
//! step. A device that does not report subnormal numbers, or fails the test, is tried once more with its
//! arithmetic done by integers. So every device that exists as a [`Device`](crate::Device) has passed.

mod ask;
mod driver;

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};

use opencl3::context::Context;
use opencl3::device::{CL_DEVICE_TYPE_ALL, Device as ClDevice};
use opencl3::error_codes::{CL_DEVICE_NOT_FOUND, CL_PLATFORM_NOT_FOUND_KHR, ClError, DLOPEN_RUNTIME_LOAD_FAILED};
use opencl3::platform::get_platforms;
use opencl3::program::Program;

use crate::admission::{Admitted, OpenError, OpenOptions};
use crate::cache::{self, DeviceCache};
use crate::choice::DeviceChoice;
use crate::device::{Device, DeviceError};
use crate::gpu::Gpu;
use crate::gpu::driver::DriverError;
use crate::gpu::kernels::{Definitions, SOURCES, TileShape};
use crate::report::{ArithmeticPath, DeviceKind, DeviceReport};
use crate::self_test::{SelfTestError, prove};
use driver::ClDriver;

/// The devices of all platforms, in their order. Empty where there is no OpenCL.
///
/// # Errors
/// An OpenCL that is there and fails.
pub(crate) fn list() -> Result<Vec<DeviceReport>, OpenError> {
    let devices = match devices() {
        Err(OpenError::NoOpenCl(_)) => Vec::new(),
        devices => devices?,
    };
    let ask = |(index, device)| ask::report(DeviceChoice::OpenCl(index), device).map_err(none);
    devices.iter().enumerate().map(ask).collect()
}

/// Opens a device of [`list`], and proves it.
///
/// # Errors
/// No such device; a device that cannot run the kernels, does not compile them in time, or computes something else.
pub(crate) fn open(choice: DeviceChoice, options: &OpenOptions) -> Result<Admitted, OpenError> {
    let found = devices()?;
    let report = ask::report(choice, find(&found, choice)?).map_err(none)?;
    let first = report.path().map_err(|reason| OpenError::Unusable { device: report.title(), reason })?;
    let paths = [ArithmeticPath::Hardware, ArithmeticPath::IntegerDivision, ArithmeticPath::Integers];
    let start = paths.iter().position(|path| *path == first).unwrap_or(0);
    let mut refused = Vec::new();
    let mut last = None;
    for &path in &paths[start..] {
        match attempt(&report, Definitions::for_device(&report, path), options)? {
            Attempt::Passed { device, is_proof_cached } => {
                return Ok(Admitted { device, report, path, refused, is_proof_cached });
            }
            Attempt::Differs(difference) => {
                refused.push((path, difference.to_string()));
                last = Some(difference);
            }
        }
    }
    let difference = last.expect("an arithmetic was tried, and did not pass");
    Err(OpenError::Refused { device: report.title(), difference })
}

/// How a try of one arithmetic ended.
enum Attempt {
    Passed { device: Arc<dyn Device>, is_proof_cached: bool },
    Differs(SelfTestError),
}

/// Compiles and proves a device with one arithmetic, within the time limit.
fn attempt(report: &DeviceReport, definitions: Definitions, options: &OpenOptions) -> Result<Attempt, OpenError> {
    let (send, receive) = channel();
    let (limit, title) = (options.time_limit, report.title());
    let (report, options) = (report.clone(), options.clone());
    let work = move || {
        // Nobody listens any more after the time limit.
        let _ = send.send(build_and_prove(&report, definitions, &options));
    };
    let failed = |reason: String| OpenError::Device(DeviceError::Failed { device: title.clone(), reason });
    std::thread::Builder::new()
        .name("opening a device".to_owned())
        .spawn(work)
        .map_err(|error| failed(format!("no thread to open it: {error}")))?;
    match receive.recv_timeout(limit) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(OpenError::TimeLimit { device: title, seconds: limit.as_secs() }),
        Err(RecvTimeoutError::Disconnected) => Err(failed("its driver ended the thread that opened it".to_owned())),
    }
}

fn build_and_prove(
    report: &DeviceReport,
    definitions: Definitions,
    options: &OpenOptions,
) -> Result<Attempt, OpenError> {
    let device = build(report, definitions, options.cache.as_deref())?;
    let proof = format!("{}.proof", name(report, &definitions));
    let cache = options.cache.as_deref();
    let is_proof_cached = !options.test_again && cache::load(cache, &proof).is_some();
    if !is_proof_cached {
        match prove(&device) {
            Err(SelfTestError::Device(error)) => return Err(error.into()),
            Err(difference) => return Ok(Attempt::Differs(difference)),
            Ok(()) => cache::store(cache, &proof, b"passed"),
        }
    }
    Ok(Attempt::Passed { device: Arc::new(device), is_proof_cached })
}

/// The device with its program, not yet proven.
fn build(
    report: &DeviceReport,
    definitions: Definitions,
    cache: Option<&dyn DeviceCache>,
) -> Result<Gpu<ClDriver>, OpenError> {
    let title = report.title();
    let failed = |error: DriverError| DeviceError::Failed { device: title.clone(), reason: error.to_string() };
    let found = devices()?;
    let device = find(&found, report.choice)?;
    let context = ClDriver::context(device).map_err(failed)?;
    let program = compile(&context, report, &definitions, cache)
        .map_err(|log| OpenError::Compile { device: title.clone(), log })?;
    let driver = ClDriver::new(report.title(), device, context, program).map_err(failed)?;
    Ok(Gpu::new(driver, definitions.tiles)?)
}

/// The program: from the cache if the driver takes it, else compiled.
fn compile(
    context: &Context,
    report: &DeviceReport,
    definitions: &Definitions,
    cache: Option<&dyn DeviceCache>,
) -> Result<Program, String> {
    let (entry, options) = (format!("{}.program", name(report, definitions)), compiler_options(report, definitions));
    if let Some(binary) = cache::load(cache, &entry)
        && let Ok(program) = Program::create_and_build_from_binary(context, &[&binary], &options)
    {
        return Ok(program);
    }
    // One text: cl3 0.13 passes several sources as the wrong kind of pointers, and the driver crashes.
    let program = Program::create_and_build_from_source(context, &SOURCES.join("\n"), &options)?;
    if let Ok(binaries) = program.get_binaries()
        && let [binary] = &binaries[..]
        && !binary.is_empty()
    {
        cache::store(cache, &entry, binary);
    }
    Ok(program)
}

/// The options of the compiler: the standard, and what the kernels are told.
fn compiler_options(report: &DeviceReport, definitions: &Definitions) -> String {
    // The option is an error where the device does not report it.
    let rounded = if report.floats.has_division { " -cl-fp32-correctly-rounded-divide-sqrt" } else { "" };
    format!("-cl-std=CL1.2{rounded} {}", definitions.options())
}

/// The name of a program in the cache. Another driver, device, source or option gives another name.
fn name(report: &DeviceReport, definitions: &Definitions) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("templar/1 device program");
    let options = compiler_options(report, definitions);
    for part in [env!("CARGO_PKG_VERSION"), &report.identity(), &options].into_iter().chain(SOURCES) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// Why there is no OpenCL.
fn none(error: ClError) -> OpenError {
    OpenError::NoOpenCl(match error.0 {
        DLOPEN_RUNTIME_LOAD_FAILED => "its library (libOpenCL) is not installed".to_owned(),
        CL_PLATFORM_NOT_FOUND_KHR => "no driver for it is installed".to_owned(),
        _ => error.to_string(),
    })
}

/// The device of a choice among those that there are.
fn find(devices: &[ClDevice], choice: DeviceChoice) -> Result<&ClDevice, OpenError> {
    let index = if let DeviceChoice::OpenCl(index) = choice { index } else { usize::MAX };
    devices.get(index).ok_or(OpenError::NotFound { choice, found: devices.len() })
}

/// The devices of all platforms. A platform without devices is passed over.
fn devices() -> Result<Vec<ClDevice>, OpenError> {
    let mut found = Vec::new();
    for platform in get_platforms().map_err(none)? {
        match platform.get_devices(CL_DEVICE_TYPE_ALL) {
            Ok(devices) => found.extend(devices.into_iter().map(ClDevice::new)),
            Err(error) if error.0 == CL_DEVICE_NOT_FOUND => {}
            Err(error) => return Err(none(error)),
        }
    }
    Ok(found)
}

impl Definitions {
    /// How the kernels are compiled for a device.
    fn for_device(report: &DeviceReport, path: ArithmeticPath) -> Self {
        let of_cpu = if report.native_floats < 16 { TileShape::CPU_AVX2 } else { TileShape::CPU };
        let tiles = match (path, report.kind) {
            (ArithmeticPath::Integers, _) => TileShape::INTEGERS,
            (_, DeviceKind::Cpu) if report.local_bytes >= of_cpu.local_bytes() => of_cpu,
            _ => TileShape::GPU,
        };
        Self { path, has_f64: report.floats.has_f64, tiles, mutant: None }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cache::tests::MemoryCache;
    use crate::self_test::self_test;

    /// The first device. Without one these tests check nothing; the tests of `templar-testkit` say so.
    fn first() -> Option<DeviceReport> {
        list().unwrap_or_default().into_iter().next()
    }

    #[test]
    fn a_device_is_proven_once_and_a_damaged_cache_costs_only_time() {
        let Some(report) = first() else { return };
        let cache = Arc::new(MemoryCache::default());
        let shared: Arc<dyn DeviceCache> = cache.clone();
        let options = OpenOptions { cache: Some(shared), ..OpenOptions::default() };
        let admitted = open(report.choice, &options).unwrap();
        assert_eq!((Ok(admitted.path), admitted.is_proof_cached), (report.path(), false));
        assert!(open(report.choice, &options).unwrap().is_proof_cached);
        assert!(!open(report.choice, &OpenOptions { test_again: true, ..options.clone() }).unwrap().is_proof_cached);
        for entry in cache.0.lock().unwrap().values_mut() {
            entry.truncate(entry.len() / 2);
        }
        assert!(!open(report.choice, &options).unwrap().is_proof_cached, "a damaged proof is none");

        let error = admitted.device.zeros(u64::MAX / 8).map(|_| ()).unwrap_err();
        assert!(matches!(error, DeviceError::OutOfMemory { .. }), "{error}");
        assert_eq!(admitted.device.zeros(3).unwrap().len(), 3, "the device goes on");
    }

    /// Each fault that could spoil the arithmetic is made here on purpose, and must not pass.
    #[test]
    fn contraction_flushed_subnormals_and_a_missing_barrier_are_found() {
        let Some(report) = first() else { return };
        for mutant in ["-DMUTANT_CONTRACT", "-cl-denorms-are-zero", "-DMUTANT_FENCE"] {
            let definitions = Definitions::for_device(&report, ArithmeticPath::Hardware);
            let device = build(&report, Definitions { mutant: Some(mutant), ..definitions }, None).unwrap();
            let result = self_test(&device);
            assert!(matches!(result, Err(SelfTestError::Difference { .. })), "{mutant}: {result:?}");
        }
    }

    /// Integers have the same bits, also where the hardware flushes subnormal numbers and divides as it likes.
    #[test]
    fn integers_give_the_same_bits_on_a_device_that_flushes() {
        let Some(mut report) = first() else { return };
        report.floats.has_f64 = false;
        let definitions = Definitions::for_device(&report, ArithmeticPath::Integers);
        let flushing = Some("-cl-denorms-are-zero -cl-fast-relaxed-math");
        self_test(&build(&report, Definitions { mutant: flushing, ..definitions }, None).unwrap()).unwrap();
    }

    #[test]
    fn a_device_that_is_not_there_or_too_slow_is_named() {
        let absent = open(DeviceChoice::OpenCl(999), &OpenOptions::default()).unwrap_err();
        assert!(matches!(absent, OpenError::NotFound { .. } | OpenError::NoOpenCl(_)), "{absent}");
        let Some(report) = first() else { return };
        let options = OpenOptions { time_limit: Duration::ZERO, ..OpenOptions::default() };
        let slow = open(report.choice, &options).unwrap_err();
        assert_eq!(slow, OpenError::TimeLimit { device: report.title(), seconds: 0 });
    }

    #[test]
    fn another_driver_source_or_option_has_another_name_in_the_cache() {
        let Some(report) = first() else { return };
        let definitions = Definitions::for_device(&report, ArithmeticPath::Hardware);
        let integers = Definitions::for_device(&report, ArithmeticPath::Integers);
        let other = DeviceReport { driver: "another".to_owned(), ..report.clone() };
        assert_ne!(name(&report, &definitions), name(&other, &definitions));
        assert_ne!(name(&report, &definitions), name(&report, &integers));
    }
}
