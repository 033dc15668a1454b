//! Joins the parts of an import into the dataset that one machine would have made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use templar_manifest::BlobId;

use crate::assembly::Assembly;
use crate::error::ImportError;
use crate::import::Imported;
use crate::part::{PartError, PartReader, RowPlace};
use crate::progress::Progress;
use crate::shard::ShardSink;
use crate::source::ReadReport;

/// Joins part files, given in any order. The tokenizer and every shard go to `sink`. The manifest equals the one that
/// [`import`](crate::import()) makes of the same files with the same options, with any number of parts.
///
/// # Errors
/// [`PartError`] where a part is missing, twice there, damaged or from another import, and the errors of an import that
/// finds too little text or is asked to stop.
pub fn merge(paths: &[PathBuf], progress: &Progress, sink: &mut dyn ShardSink) -> Result<Imported, ImportError> {
    let parts = paths.iter().map(|path| PartReader::open(path)).collect::<Result<Vec<_>, _>>()?;
    let mut parts = complete(parts)?;
    let plan = parts[0].header.plan.clone();
    let mut missing: BTreeSet<BlobId> = plan.dataset.blobs().collect();
    for text in std::mem::take(&mut parts[0].texts) {
        missing.remove(&sink.put(text)?);
    }
    if let Some(blob) = missing.first() {
        let reason = format!("it does not hold {} that its plan names", blob.short());
        return Err(PartError::NotAPart { path: parts[0].path().to_owned(), reason }.into());
    }
    let names = plan.files.iter().map(|(name, _)| Path::new(name).to_owned()).collect();
    let mut assembly = Assembly::new(plan.dataset, names, plan.on_duplicate, sink, progress);
    let mut last = None;
    while let Some((place, from)) = first(&mut parts)? {
        if progress.is_stopped() {
            return Err(ImportError::Stopped);
        }
        let part = &mut parts[from];
        let (file, batch) = (place.0 as usize, place.1);
        let is_owned = part.header.part.has_batch(batch, file, plan.files.len()) && file < plan.files.len();
        if !is_owned || last.is_some_and(|last| last >= place) {
            return Err(part.damaged("its rows are out of order".to_owned()).into());
        }
        while part.place()? == Some(place) {
            assembly.push(file, &part.document()?)?;
        }
        last = Some(place);
    }
    Ok(Imported::new(assembly.finish()?, ReadReport::default()))
}

/// The place of the first of the documents that are left, and the index of the part that has it.
fn first(parts: &mut [PartReader]) -> Result<Option<(RowPlace, usize)>, PartError> {
    let mut first = None;
    for (index, part) in parts.iter_mut().enumerate() {
        let place = part.place()?.map(|place| (place, index));
        first = [first, place].into_iter().flatten().min();
    }
    Ok(first)
}

/// All parts of one import, in order.
fn complete(mut parts: Vec<PartReader>) -> Result<Vec<PartReader>, PartError> {
    parts.sort_by_key(|part| part.header.part.number());
    for pair in parts.windows(2) {
        let [one, other] = pair else { continue };
        let paths = || (one.path().to_owned(), other.path().to_owned());
        let (counts, number) = ([one, other].map(|part| part.header.part.count()), other.header.part.number());
        let counted =
            (counts[0] != counts[1]).then(|| format!("one is of {} parts and the other of {}", counts[0], counts[1]));
        if let Some(difference) = one.header.plan.difference(&other.header.plan).or(counted) {
            let (first, second) = paths();
            return Err(PartError::Differ { first, second, difference });
        }
        if one.header.part == other.header.part {
            let (first, second) = paths();
            return Err(PartError::Twice { first, second, number });
        }
    }
    let count = parts.first().map_or(1, |part| part.header.part.count());
    let has = |number: &u32| parts.iter().any(|part| part.header.part.number() == *number);
    let missing: Vec<u32> = (1..=count).filter(|number| !has(number)).collect();
    if missing.is_empty() { Ok(parts) } else { Err(PartError::Missing { missing, count }) }
}
