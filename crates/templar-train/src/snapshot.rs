//! A window under way, as bytes: so that a killed miner goes on where it was, to the same hash.
//!
//! A snapshot is private to one home and one version of the program; it is never evidence. It holds what the
//! inner steps change (parameters, moments, leaves) and the hash of what they started from, and ends with the
//! hash of itself, so a torn or foreign snapshot is noticed and the window starts again.

use std::borrow::Cow;
use std::io::{self, Read, Write};

use templar_device::DeviceError;
use templar_manifest::Hash;
use templar_manifest::trace::Leaf;

use crate::task::{TrainError, WindowTask};
use crate::window::WindowRun;
use crate::{MinerState, Recipe, tensors};

const MAGIC: &[u8; 8] = b"tplrsnp0";

/// Binds a snapshot to the window it belongs to.
fn task_hash(run: &WindowRun<'_>) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(run.recipe.run.hash().as_bytes());
    hasher.update(&run.task.window.0.to_le_bytes());
    hasher.update(run.task.miner.as_bytes());
    hasher.update(&run.task.steps.to_le_bytes());
    for page in &run.task.pages {
        hasher.update(&page.to_le_bytes());
    }
    for hash in &run.leaves[0].tensors {
        hasher.update(hash.as_bytes());
    }
    hasher.update(tensors::hash_of(&[&run.error]).as_bytes());
    hasher.finalize().into()
}

/// A reader or writer that hashes the bytes that pass.
struct Hashing<T> {
    inner: T,
    hasher: blake3::Hasher,
}

impl<W: Write> Hashing<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.inner.write_all(bytes)
    }
}

impl<R: Read> Hashing<R> {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        self.hasher.update(&bytes);
        Ok(bytes)
    }

    fn fill(&mut self, values: &mut [f32]) -> io::Result<()> {
        const CHUNK: usize = 16 << 10;
        let mut buffer = vec![0; CHUNK * 4];
        for chunk in values.chunks_mut(CHUNK) {
            let bytes = &mut buffer[..chunk.len() * 4];
            self.inner.read_exact(bytes)?;
            self.hasher.update(bytes);
            for (value, bytes) in chunk.iter_mut().zip(bytes.chunks_exact(4)) {
                *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        }
        Ok(())
    }
}

/// Why a snapshot cannot be written.
enum ReadBack {
    Device(DeviceError),
    Write(io::Error),
}

impl From<DeviceError> for ReadBack {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

impl From<ReadBack> for io::Error {
    fn from(error: ReadBack) -> Self {
        match error {
            ReadBack::Device(error) => io::Error::other(error),
            ReadBack::Write(error) => error,
        }
    }
}

impl<'a> WindowRun<'a> {
    /// Writes a snapshot.
    ///
    /// # Errors
    /// `to` cannot be written, or the device fails.
    pub fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        let mut to = Hashing { inner: to, hasher: blake3::Hasher::new() };
        to.put(MAGIC)?;
        to.put(task_hash(self).as_bytes())?;
        to.put(&self.steps_taken().to_le_bytes())?;
        for leaf in &self.leaves[1..] {
            to.put(&leaf.loss_bits.to_le_bytes())?;
            for hash in &leaf.tensors {
                to.put(hash.as_bytes())?;
            }
        }
        self.resident.read_back(|values| to.put(&tensors::to_bytes(&[values])).map_err(ReadBack::Write))?;
        let hash = to.hasher.finalize();
        to.inner.write_all(hash.as_bytes())
    }

    /// A window from its start or, where `from` holds a whole snapshot of just this window, from there.
    /// [`WindowRun::steps_taken`] tells which of the two it was.
    pub fn resume(
        recipe: &'a Recipe,
        task: &'a WindowTask,
        start: impl Into<Cow<'a, [f32]>>,
        state: MinerState,
        from: &mut dyn Read,
    ) -> Result<Self, TrainError> {
        let mut run = Self::new(recipe, task, start, state)?;
        if let Ok(Some(saved)) = read(&run, from) {
            run.leaves.extend(saved.leaves);
            run.optimizer_steps += u64::from(run.steps_taken());
            run.resident.reload(saved.vectors)?;
        }
        Ok(run)
    }
}

struct Saved {
    leaves: Vec<Leaf>,
    /// Parameters, first moments, second moments.
    vectors: [Vec<f32>; 3],
}

/// Reads a snapshot of `run`; `None` where it is of something else or damaged.
fn read(run: &WindowRun<'_>, from: &mut dyn Read) -> io::Result<Option<Saved>> {
    let mut from = Hashing { inner: from, hasher: blake3::Hasher::new() };
    if &from.take::<8>()? != MAGIC || from.take::<32>()? != *task_hash(run).as_bytes() {
        return Ok(None);
    }
    let steps = u32::from_le_bytes(from.take()?);
    if steps == 0 || steps > run.task.steps {
        return Ok(None);
    }
    let mut leaves = Vec::new();
    for _ in 0..steps {
        let loss_bits = u64::from_le_bytes(from.take()?);
        let hashes =
            (0..run.recipe.tensors.len()).map(|_| from.take().map(Hash::from_bytes)).collect::<io::Result<_>>()?;
        leaves.push(Leaf { loss_bits, tensors: hashes });
    }
    let mut vectors = [(); 3].map(|()| vec![0.0; run.recipe.parameter_count()]);
    for vector in &mut vectors {
        from.fill(vector)?;
    }
    let found = from.hasher.finalize();
    let mut expected = [0; 32];
    from.inner.read_exact(&mut expected)?;
    Ok((found.as_bytes() == &expected).then_some(Saved { leaves, vectors }))
}
