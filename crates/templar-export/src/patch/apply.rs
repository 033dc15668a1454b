//! Applying a patch.
//!
//! Nothing of the folder changes before everything was compared: the patch with its hash, and each tensor of the folder
//! with its hash before, or after, so that a patch that was interrupted goes on. New files are written beside the old
//! ones, compared once more, synced and then renamed, `config.json` last.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use templar_manifest::{CheckpointId, Hash, RunId};

use super::COMPANIONS;
use super::error::PatchError;
use super::folder::{self, OpenWeights};
use super::head::OpenPatch;

/// A folder that was patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patched {
    /// The run.
    pub run: RunId,
    /// The checkpoint that the folder was.
    pub from: CheckpointId,
    /// The checkpoint that it is.
    pub to: CheckpointId,
    /// Tensors that changed. None where the folder was patched before.
    pub tensors: usize,
}

/// Makes a folder of the checkpoint that the patch in `path` begins with into one of the checkpoint that it ends with.
///
/// # Errors
/// See [`PatchError`]. The folder is as it was then.
pub fn apply(path: &Path, dir: &Path) -> Result<Patched, PatchError> {
    let mut patch = OpenPatch::open(path)?;
    let mut weights = folder::open(dir, patch.head.weights, &patch.head.tensors)?;
    let todo = compare(&patch, &mut weights)?;
    let mut staged = Staged { dir, names: Vec::new() };
    for file in &mut weights {
        // A file of which every tensor is done stays.
        if file.tensors.iter().any(|(number, _)| todo[*number]) {
            staged.weights(&mut patch, file, &todo)?;
        }
    }
    // In the order of the list, which ends with the config.
    for name in COMPANIONS {
        if let Some(number) = patch.head.files.iter().position(|file| file.name == name) {
            let bytes = patch.file(number)?;
            staged.file(name, |file| file.write_all(&bytes))?;
        }
    }
    staged.publish()?;
    let tensors = todo.iter().filter(|todo| **todo).count();
    Ok(Patched { run: patch.head.run, from: patch.head.from, to: patch.head.to, tensors })
}

/// Compares every tensor of the folder with its hashes. Returns which are still as they were before.
fn compare(patch: &OpenPatch, weights: &mut [OpenWeights]) -> Result<Vec<bool>, PatchError> {
    let tensors = &patch.head.tensors;
    let mut todo = vec![false; tensors.len()];
    let (mut strange, mut known) = (None::<usize>, false);
    for file in weights {
        for (number, info) in file.tensors.clone() {
            let hash = Hash::of(&file.read(&info)?);
            let tensor = &tensors[number];
            todo[number] = hash == tensor.before && tensor.before != tensor.after;
            if hash == tensor.before || hash == tensor.after {
                known |= tensor.before != tensor.after;
            } else {
                strange = Some(strange.map_or(number, |first| first.min(number)));
            }
        }
    }
    let from = patch.head.from;
    match strange {
        None => Ok(todo),
        Some(number) if known => Err(PatchError::DamagedBase { tensor: tensors[number].name.clone(), from }),
        Some(_) => Err(PatchError::OtherBase { from }),
    }
}

/// Files written beside their places; dropped before [`Staged::publish`], it takes them away.
struct Staged<'a> {
    dir: &'a Path,
    names: Vec<String>,
}

impl Staged<'_> {
    fn partial(&self, name: &str) -> PathBuf {
        self.dir.join(format!(".{name}.partial"))
    }

    fn file(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
    ) -> Result<(), PatchError> {
        let path = self.partial(name);
        let failed = PatchError::io;
        let mut file = BufWriter::new(File::create(&path).map_err(failed(&path))?);
        self.names.push(name.to_owned());
        write(&mut file).map_err(failed(&path))?;
        let file = file.into_inner().map_err(std::io::IntoInnerError::into_error).map_err(failed(&path))?;
        file.sync_all().map_err(failed(&path))
    }

    /// Writes the new form of a file of weights, with the header that it has.
    fn weights(&mut self, patch: &mut OpenPatch, file: &mut OpenWeights, todo: &[bool]) -> Result<(), PatchError> {
        let mut refused = None;
        let (name, head) = (file.name.clone(), file.head.clone());
        let written = self.file(&name, |out| {
            out.write_all(&head)?;
            for (number, info) in file.tensors.clone() {
                match next(patch, file, number, &info, todo[number]) {
                    Ok(bytes) => out.write_all(&bytes)?,
                    Err(error) => {
                        refused = Some(error);
                        break;
                    }
                }
            }
            Ok(())
        });
        refused.map_or(written, Err)
    }

    /// Gives the files their names, in the order in which they were written.
    fn publish(mut self) -> Result<(), PatchError> {
        let failed = PatchError::io;
        while let Some(name) = self.names.first() {
            let path = self.dir.join(name);
            fs::rename(self.partial(name), &path).map_err(failed(&path))?;
            self.names.remove(0);
        }
        File::open(self.dir).and_then(|dir| dir.sync_all()).map_err(failed(self.dir))
    }
}

/// The bytes of a tensor after the patch.
fn next(
    patch: &mut OpenPatch,
    file: &mut OpenWeights,
    number: usize,
    info: &safetensors::tensor::TensorInfo,
    todo: bool,
) -> Result<Vec<u8>, PatchError> {
    let mut bytes = file.read(info)?;
    if todo {
        let difference = patch.difference(number, bytes.len())?;
        bytes.iter_mut().zip(difference).for_each(|(byte, difference)| *byte ^= difference);
    }
    let tensor = &patch.head.tensors[number];
    if Hash::of(&bytes) != tensor.after {
        return Err(patch.damaged(format!("the part of {} gives another tensor than it says", tensor.name)));
    }
    Ok(bytes)
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        for name in &self.names {
            // Best effort: the error that matters is the one that brought us here.
            let _ = fs::remove_file(self.partial(name));
        }
    }
}
