//! OpenCL as a driver: one device, one queue that takes effect in order, one program.
//!
//! All calls of OpenCL that Rust cannot check are in this file.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::null_mut;

use opencl3::command_queue::CommandQueue;
use opencl3::context::Context;
use opencl3::device::Device as ClDevice;
use opencl3::error_codes::{
    CL_CONTEXT_TERMINATED_KHR, CL_DEVICE_NOT_AVAILABLE, CL_INVALID_BUFFER_SIZE, CL_INVALID_COMMAND_QUEUE,
    CL_INVALID_CONTEXT, CL_INVALID_DEVICE, CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_OUT_OF_HOST_MEMORY,
    CL_OUT_OF_RESOURCES, ClError,
};
use opencl3::event::Event;
use opencl3::kernel::Kernel;
use opencl3::memory::{Buffer, CL_MEM_READ_WRITE, ClMem as _, release_mem_object};
use opencl3::program::Program;
use opencl3::types::CL_BLOCKING;
use parking_lot::Mutex;

use crate::device::DeviceMemory;
use crate::gpu::driver::{Arg, Driver, DriverError, Grid};

/// One device of OpenCL with its program.
pub(super) struct ClDriver {
    name: String,
    context: ManuallyDrop<Context>,
    /// The queue and the kernels made so far. A kernel holds its arguments until it is launched, so both have one
    /// lock.
    queue: Mutex<Queue>,
    memory: DeviceMemory,
}

struct Queue {
    commands: ManuallyDrop<CommandQueue>,
    program: ManuallyDrop<Program>,
    kernels: HashMap<&'static str, ManuallyDrop<Kernel>>,
}

/// Memory of the device. OpenCL keeps it until the commands that use it have finished.
pub(crate) struct ClMemory(ManuallyDrop<Buffer<u32>>);

impl Drop for ClMemory {
    fn drop(&mut self) {
        // The wrapper's own drop panics where a device that was lost refuses the call.
        // SAFETY: the handle is valid, and nothing uses it after this.
        let _ = unsafe { release_mem_object(self.0.get()) };
    }
}

impl fmt::Debug for ClDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClDriver({})", self.name)
    }
}

/// Whether an error of an allocation or of a command says that memory is short.
fn is_memory(error: &ClError) -> bool {
    [CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_OUT_OF_HOST_MEMORY, CL_INVALID_BUFFER_SIZE].contains(&error.0)
}

fn error(error: ClError) -> DriverError {
    let lost = [
        CL_DEVICE_NOT_AVAILABLE,
        CL_INVALID_COMMAND_QUEUE,
        CL_INVALID_CONTEXT,
        CL_INVALID_DEVICE,
        CL_CONTEXT_TERMINATED_KHR,
        CL_OUT_OF_RESOURCES,
    ];
    match error {
        _ if is_memory(&error) => DriverError::OutOfMemory { words: 0 },
        _ if lost.contains(&error.0) => DriverError::Lost(error.to_string()),
        _ => DriverError::Other(error.to_string()),
    }
}

impl ClDriver {
    /// A context on a device, before there is a program. It is never given back: a device stays open until the
    /// process ends, and drivers are at their worst when contexts end.
    pub(super) fn context(device: &ClDevice) -> Result<Context, DriverError> {
        Context::from_device(device).map_err(error)
    }

    /// A driver with a program that was built for this context.
    pub(super) fn new(
        name: String,
        device: &ClDevice,
        context: Context,
        program: Program,
    ) -> Result<Self, DriverError> {
        // The call that every version of OpenCL has. Without properties the queue is in order.
        #[allow(deprecated, reason = "its successor is missing in OpenCL 1.2")]
        let commands = CommandQueue::create_default(&context, 0).map_err(error)?;
        let queue = Queue {
            commands: ManuallyDrop::new(commands),
            program: ManuallyDrop::new(program),
            kernels: HashMap::new(),
        };
        let memory = DeviceMemory {
            total_bytes: device.global_mem_size().map_err(error)?,
            buffer_bytes: device.max_mem_alloc_size().map_err(error)?,
        };
        Ok(Self { name, context: ManuallyDrop::new(context), queue: Mutex::new(queue), memory })
    }

    fn index(&self, words: u64) -> Result<usize, DriverError> {
        usize::try_from(words).map_err(|_| DriverError::OutOfMemory { words })
    }
}

impl Driver for ClDriver {
    type Memory = ClMemory;

    fn name(&self) -> String {
        self.name.clone()
    }

    fn memory(&self) -> DeviceMemory {
        self.memory
    }

    fn allocate(&self, words: u64) -> Result<ClMemory, DriverError> {
        if words > self.memory.buffer_bytes / 4 {
            return Err(DriverError::OutOfMemory { words });
        }
        let count = self.index(words)?;
        // SAFETY: no memory of the host is passed.
        let buffer = unsafe { Buffer::create(&self.context, CL_MEM_READ_WRITE, count, null_mut()) };
        match buffer {
            Ok(buffer) => Ok(ClMemory(ManuallyDrop::new(buffer))),
            Err(failure) if is_memory(&failure) || failure.0 == CL_OUT_OF_RESOURCES => {
                Err(DriverError::OutOfMemory { words })
            }
            Err(failure) => Err(error(failure)),
        }
    }

    fn write(&self, memory: &ClMemory, at: u64, words: &[u32]) -> Result<(), DriverError> {
        let offset = self.index(at * 4)?;
        let queue = self.queue.lock();
        // SAFETY: callers write within the memory that they allocated; the call returns when the words were copied.
        let written = unsafe {
            opencl3::command_queue::enqueue_write_buffer(
                queue.commands.get(),
                memory.0.get(),
                CL_BLOCKING,
                offset,
                size_of_val(words),
                words.as_ptr().cast::<c_void>().cast_mut(),
                0,
                std::ptr::null(),
            )
        };
        written.map(|event| drop(Event::new(event))).map_err(|code| error(ClError(code)))
    }

    fn read(&self, memory: &ClMemory, at: u64, words: &mut [u32]) -> Result<(), DriverError> {
        let offset = self.index(at * 4)?;
        let queue = self.queue.lock();
        // SAFETY: callers read within the memory that they allocated; the call returns when the words are here.
        unsafe { queue.commands.enqueue_read_buffer(&memory.0, CL_BLOCKING, offset, words, &[]) }
            .map(drop)
            .map_err(error)
    }

    fn launch(&self, kernel: &'static str, grid: Grid, args: &[Arg<'_, ClMemory>]) -> Result<(), DriverError> {
        let mut queue = self.queue.lock();
        let Queue { commands, program, kernels } = &mut *queue;
        let kernel = match kernels.entry(kernel) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(ManuallyDrop::new(Kernel::create(program, kernel).map_err(error)?))
            }
        };
        for (index, arg) in (0..).zip(args) {
            // SAFETY: the types are those of the kernel's parameters in the same order; a memory handle outlives
            // the call, and OpenCL itself keeps the memory from the launch on.
            let set = unsafe {
                match arg {
                    Arg::Memory(memory) => kernel.set_arg(index, &memory.0.get()),
                    Arg::U32(value) => kernel.set_arg(index, value),
                    Arg::U64(value) => kernel.set_arg(index, value),
                    Arg::F32(value) => kernel.set_arg(index, value),
                }
            };
            set.map_err(error)?;
        }
        let local = [grid.group[0] as usize, grid.group[1] as usize, 1];
        let mut global = [0; 3];
        for (global, (groups, local)) in global.iter_mut().zip(grid.groups.iter().zip(local)) {
            *global = self.index(*groups)? * local;
        }
        // SAFETY: every argument was set; the kernels of this crate stay within the memory that they are given.
        let launched = unsafe {
            commands.enqueue_nd_range_kernel(kernel.get(), 3, std::ptr::null(), global.as_ptr(), local.as_ptr(), &[])
        };
        launched.map(drop).map_err(error)
    }
}
