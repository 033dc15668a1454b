//! Keeps three things of a run on disk: its result for ever, a snapshot while it is under way, and the input of
//! a few of its deltas. With that input their bytes can be counted again when only the codec has changed.
//!
//! A file is written under another name and then renamed, and a snapshot ends in a hash of itself. So a killed
//! command never leaves a file that looks complete and is not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use templar_train::MinerState;
use templar_train::tensors::{extend_from_bytes, to_bytes};

use crate::run::{Failure, State};

/// One point of a loss curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// The number of windows done.
    pub(crate) windows: u64,
    /// Held-out loss, on a part of the pages.
    pub(crate) nanonats: u64,
}

/// The results of a run, partial or final.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// A description of the run, for people.
    pub(crate) config: serde_json::Value,
    /// The hash of the final parameters, little-endian. Empty until the run has ended.
    pub(crate) hash: String,
    /// The held-out loss at the end of the run, on all pages.
    pub(crate) nanonats: u64,
    /// The number of parameters of the model.
    pub(crate) parameters: u64,
    /// The loss curve, in the order of the windows.
    pub(crate) points: Vec<Point>,
    /// The windows whose compressor input is kept.
    pub(crate) samples: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
struct Front {
    record: Record,
    windows: u64,
    optimizer_steps: Vec<u64>,
}

/// The folder in which results are kept.
pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Opens the folder and creates it if necessary.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn path(&self, id: &str, ending: &str) -> PathBuf {
        self.folder.join(format!("{id}{ending}"))
    }

    fn write(&self, id: &str, ending: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(id, ending);
        let beside = self.path(id, &format!("{ending}.part"));
        fs::write(&beside, bytes)?;
        fs::rename(beside, path)
    }

    /// The result of a run that is over.
    pub(crate) fn result(&self, id: &str) -> Result<Option<Record>, Failure> {
        match fs::read(self.path(id, ".json")) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps a final result and removes the snapshot.
    pub(crate) fn keep_result(&self, id: &str, record: &Record) -> Result<(), Failure> {
        self.write(id, ".json", &serde_json::to_vec_pretty(record)?)?;
        match fs::remove_file(self.path(id, ".snapshot")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Keeps the compressor's input for the delta of `window`.
    pub(crate) fn keep_sample(&self, id: &str, window: u64, values: &[f32]) -> io::Result<()> {
        self.write(id, &format!("-{window}.f32"), &to_bytes(&[values]))
    }

    /// Reads such an input back.
    pub(crate) fn sample(&self, id: &str, window: u64) -> io::Result<Vec<f32>> {
        let mut values = Vec::new();
        extend_from_bytes(&mut values, &fs::read(self.path(id, &format!("-{window}.f32")))?);
        Ok(values)
    }

    /// Keeps a snapshot of a run between two windows.
    pub(crate) fn keep_snapshot(&self, id: &str, record: &Record, state: &State) -> Result<(), Failure> {
        let front = Front {
            record: record.clone(),
            windows: state.windows,
            optimizer_steps: state.miners.iter().map(|miner| miner.optimizer_steps).collect(),
        };
        let front = serde_json::to_vec(&front)?;
        let mut parts: Vec<&[f32]> = vec![&state.parameters, &state.momentum];
        for miner in &state.miners {
            parts.extend([&miner.first[..], &miner.second, &miner.error]);
        }
        let mut bytes = (front.len() as u64).to_le_bytes().to_vec();
        bytes.extend(front);
        bytes.extend(to_bytes(&parts));
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        Ok(self.write(id, ".snapshot", &bytes)?)
    }

    /// Reads the snapshot of a run, or `None` if there is no complete one with the shape of `start`.
    pub(crate) fn snapshot(&self, id: &str, start: &State) -> Option<(Record, State)> {
        let bytes = fs::read(self.path(id, ".snapshot")).ok()?;
        let (bytes, hash) = bytes.split_last_chunk::<32>()?;
        if blake3::hash(bytes) != *hash {
            return None;
        }
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (front, rest) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
        let front: Front = serde_json::from_slice(front).ok()?;
        let count = start.parameters.len();
        if rest.len() != 4 * count * (2 + 3 * start.miners.len()) || front.optimizer_steps.len() != start.miners.len() {
            return None;
        }
        let mut vectors = rest.chunks_exact(4 * count).map(|bytes| {
            let mut values = Vec::with_capacity(count);
            extend_from_bytes(&mut values, bytes);
            values
        });
        let (parameters, momentum) = (vectors.next()?, vectors.next()?);
        let mut miners = Vec::new();
        for &optimizer_steps in &front.optimizer_steps {
            let (first, second, error) = (vectors.next()?, vectors.next()?, vectors.next()?);
            miners.push(MinerState { optimizer_steps, first, second, error });
        }
        Some((front.record, State { windows: front.windows, parameters, momentum, miners }))
    }
}
