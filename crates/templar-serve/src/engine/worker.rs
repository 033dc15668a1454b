//! The thread that computes.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::job::Job;
use super::scheduler::{Batching, Scheduler};
use crate::metrics::ServeMetrics;

/// The way to the thread. It ends when this is gone and every job is done.
#[derive(Debug)]
pub(crate) struct Worker {
    jobs: Sender<Job>,
    places: Arc<Semaphore>,
    limit: usize,
    thread: JoinHandle<()>,
}

/// No place is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy {
    /// The number of places.
    pub(crate) limit: usize,
}

impl Worker {
    /// Starts the thread. At most `limit` texts are under way or wait.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(batching: Batching, limit: usize, metrics: Arc<ServeMetrics>) -> std::io::Result<Self> {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        let (jobs, receiver) = channel();
        let scheduler = Scheduler::new(batching, metrics);
        let thread = std::thread::Builder::new().name("templar-serve".to_owned());
        let thread = thread.spawn(move || work(scheduler, &receiver))?;
        Ok(Self { jobs, places: Arc::new(Semaphore::new(limit)), limit, thread })
    }

    /// Takes places for the texts of a request.
    ///
    /// # Errors
    /// There are not so many.
    pub(crate) fn reserve(&self, texts: usize) -> Result<OwnedSemaphorePermit, Busy> {
        let count = u32::try_from(texts).unwrap_or(u32::MAX);
        self.places.clone().try_acquire_many_owned(count).map_err(|_| Busy { limit: self.limit })
    }

    /// Hands a job over. If the thread is gone the job is dropped, and with it its channel.
    pub(crate) fn submit(&self, job: Job) {
        drop(self.jobs.send(job));
    }

    /// Whether the thread works.
    pub(crate) fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }
}

fn work(mut scheduler: Scheduler, jobs: &Receiver<Job>) {
    loop {
        if scheduler.is_idle() {
            match jobs.recv() {
                Ok(job) => scheduler.submit(job),
                Err(_) => return,
            }
        }
        while let Ok(job) = jobs.try_recv() {
            scheduler.submit(job);
        }
        scheduler.step();
    }
}
