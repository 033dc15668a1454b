//! GPUs as devices: buffers in the memory of a driver, and one kernel launch for each operation.
//!
//! Everything here is the same for every driver. A driver ([`driver::Driver`]) allocates, copies and launches;
//! the kernels are in `kernels/`. A failure of a launch is kept, and the next call that brings something back
//! returns it.

pub(crate) mod driver;
pub(crate) mod kernels;
mod launch;
mod memory;
mod operations;
mod ranges;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::device::DeviceError;
use driver::{Driver, DriverError};
use kernels::TileShape;

/// A device that computes by the kernels of this crate.
pub(crate) struct Gpu<D: Driver> {
    driver: D,
    /// The shapes that the program was compiled with.
    tiles: TileShape,
    /// Tells the buffers of this device from those of others.
    id: u64,
    /// Memory that stands for a buffer without elements.
    nothing: D::Memory,
    /// The first failure. Nothing is launched after it.
    failure: Mutex<Option<DeviceError>>,
}

impl<D: Driver> fmt::Debug for Gpu<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({})", self.driver.name())
    }
}

impl<D: Driver> Gpu<D> {
    /// A device over a driver whose program was compiled with these shapes.
    pub(crate) fn new(driver: D, tiles: TileShape) -> Result<Self, DeviceError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let nothing = driver.allocate(1).map_err(|error| named(driver.name(), error))?;
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { driver, tiles, id, nothing, failure: Mutex::new(None) })
    }

    /// An error of the driver as the device's. It stays: a device that has failed once fails from then on.
    fn fail(&self, error: DriverError) -> DeviceError {
        self.failure.lock().get_or_insert(named(self.driver.name(), error)).clone()
    }

    /// Fails if anything has failed before.
    fn check(&self) -> Result<(), DeviceError> {
        match &*self.failure.lock() {
            None => Ok(()),
            Some(failure) => Err(failure.clone()),
        }
    }
}

/// An error of a driver, with the device's name.
fn named(device: String, error: DriverError) -> DeviceError {
    match error {
        DriverError::OutOfMemory { words } => DeviceError::OutOfMemory { device, bytes: words.saturating_mul(4) },
        DriverError::Lost(reason) => DeviceError::Lost { device, reason },
        DriverError::Other(reason) => DeviceError::Failed { device, reason },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::driver::{Arg, Grid};
    use super::*;
    use crate::device::{Device, DeviceMemory};

    /// A driver whose device is lost at a launch, and whose memory has room for a hundred words.
    #[derive(Debug)]
    struct Fragile {
        launches_left: AtomicU32,
    }

    impl Driver for Fragile {
        type Memory = ();

        fn name(&self) -> String {
            "fragile".to_owned()
        }

        fn memory(&self) -> DeviceMemory {
            DeviceMemory { total_bytes: 400, buffer_bytes: 400 }
        }

        fn allocate(&self, words: u64) -> Result<(), DriverError> {
            if words > 100 { Err(DriverError::OutOfMemory { words }) } else { Ok(()) }
        }

        fn write(&self, _memory: &(), _at: u64, _words: &[u32]) -> Result<(), DriverError> {
            Ok(())
        }

        fn read(&self, _memory: &(), _at: u64, words: &mut [u32]) -> Result<(), DriverError> {
            words.fill(0);
            Ok(())
        }

        fn launch(&self, _kernel: &'static str, _grid: Grid, _args: &[Arg<'_, ()>]) -> Result<(), DriverError> {
            let left = self.launches_left.load(Ordering::Relaxed);
            self.launches_left.store(left.saturating_sub(1), Ordering::Relaxed);
            if left == 0 { Err(DriverError::Lost("unplugged".to_owned())) } else { Ok(()) }
        }
    }

    #[test]
    fn a_device_that_is_lost_in_the_middle_says_so_whenever_something_comes_back() {
        let gpu = Gpu::new(Fragile { launches_left: AtomicU32::new(2) }, TileShape::GPU).unwrap();
        let mut x = gpu.zeros(10).unwrap();
        gpu.scale(x.all_mut(), 2.0);
        gpu.read(x.all(), &mut [0.0; 10]).unwrap();
        // The launch that fails returns nothing; everything after it does.
        gpu.scale(x.all_mut(), 2.0);
        let lost = DeviceError::Lost { device: "fragile".to_owned(), reason: "unplugged".to_owned() };
        assert_eq!(gpu.read(x.all(), &mut [0.0; 10]), Err(lost.clone()));
        assert_eq!(gpu.squared_norms(&x, &[0..3, 3..10]), Err(lost.clone()));
        assert_eq!(gpu.first_non_finite(x.all()), Err(lost.clone()));
        assert_eq!(gpu.hash(&[&x], &[0..3, 3..10], None), Err(lost.clone()));
        assert_eq!(gpu.zeros(1).map(|_| ()), Err(lost.clone()));
        assert_eq!(gpu.download(x), Err(lost));
    }

    #[test]
    fn memory_that_is_short_is_named_and_the_device_goes_on() {
        let gpu = Gpu::new(Fragile { launches_left: AtomicU32::new(9) }, TileShape::GPU).unwrap();
        let error = gpu.zeros(101).map(|_| ()).unwrap_err();
        assert_eq!(error, DeviceError::OutOfMemory { device: "fragile".to_owned(), bytes: 404 });
        assert_eq!(error.to_string(), "device fragile is out of memory: it has no room for 404 bytes more");
        assert_eq!(gpu.zeros(100).unwrap().len(), 100);
    }

    #[test]
    fn a_device_whose_work_differed_gives_the_reason_from_then_on() {
        let gpu = Gpu::new(Fragile { launches_left: AtomicU32::new(9) }, TileShape::GPU).unwrap();
        let x = gpu.zeros(10).unwrap();
        let why = DeviceError::Differs { device: "fragile".to_owned(), what: "a loss".to_owned() };
        gpu.stop_using(&why);
        assert_eq!(gpu.read(x.all(), &mut [0.0; 10]), Err(why.clone()));
        assert_eq!(gpu.zeros(1).map(|_| ()), Err(why));
    }

    #[test]
    #[should_panic(expected = "a buffer in the memory of this device")]
    fn a_buffer_of_another_device_is_refused() {
        let [one, other] = [9, 9]
            .map(|launches| Gpu::new(Fragile { launches_left: AtomicU32::new(launches) }, TileShape::GPU).unwrap());
        let mut x = one.zeros(10).unwrap();
        other.scale(x.all_mut(), 2.0);
    }
}
