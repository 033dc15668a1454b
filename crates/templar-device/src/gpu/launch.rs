//! A launch of a kernel while its arguments are collected.

use super::Gpu;
use super::driver::{Arg, Driver, Grid};
use crate::buffer::{Element, View};

/// Threads of a group where each thread takes one element.
const ELEMENTS_GROUP: u32 = 128;

/// A kernel with its arguments so far.
pub(super) struct Launch<'a, D: Driver> {
    gpu: &'a Gpu<D>,
    kernel: &'static str,
    args: Vec<Arg<'a, D::Memory>>,
}

impl<D: Driver> Gpu<D> {
    /// Begins a launch of a kernel. Arguments follow in the order of its parameters.
    pub(super) fn kernel(&self, kernel: &'static str) -> Launch<'_, D> {
        Launch { gpu: self, kernel, args: Vec::with_capacity(16) }
    }
}

impl<'a, D: Driver> Launch<'a, D> {
    /// Memory and the element at which the kernel begins: two parameters (`IN`, `OUT` or `IDS` in the sources).
    pub(super) fn view<T: Element>(mut self, view: &View<'a, T>) -> Self {
        let (memory, at) = self.gpu.place(view);
        self.args.extend([Arg::Memory(memory), Arg::U64(at)]);
        self
    }

    /// Memory as a whole.
    pub(super) fn memory(mut self, memory: &'a D::Memory) -> Self {
        self.args.push(Arg::Memory(memory));
        self
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.args.push(Arg::U32(value));
        self
    }

    /// A size, which the kernel takes in 32 bits.
    ///
    /// # Panics
    /// If it does not fit.
    pub(super) fn size(self, value: u64) -> Self {
        self.u32(u32::try_from(value).expect("a size below 2^32"))
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.args.push(Arg::U64(value));
        self
    }

    pub(super) fn f32(mut self, value: f32) -> Self {
        self.args.push(Arg::F32(value));
        self
    }

    pub(super) fn flag(self, value: bool) -> Self {
        self.u32(u32::from(value))
    }

    /// Runs it with one thread for each of `n` elements.
    pub(super) fn each(self, n: u64) {
        self.run([n.div_ceil(u64::from(ELEMENTS_GROUP)), 1, 1], [ELEMENTS_GROUP, 1]);
    }

    /// Runs it with a group of `threads` for each of `n` rows.
    pub(super) fn groups(self, n: u64, threads: u32) {
        self.run([n, 1, 1], [threads, 1]);
    }

    /// Runs it. A failure is the device's from now on.
    pub(super) fn run(self, groups: [u64; 3], group: [u32; 2]) {
        if groups.contains(&0) || self.gpu.failure.lock().is_some() {
            return;
        }
        if let Err(error) = self.gpu.driver.launch(self.kernel, Grid { groups, group }, &self.args) {
            self.gpu.fail(error);
        }
    }
}
