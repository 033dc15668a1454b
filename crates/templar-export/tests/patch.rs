//! Patches: a patched folder is the full export, and whatever does not fit is refused by name and changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use templar_export::patch::{self, PatchContents, PatchError, Patched};
use templar_manifest::{CheckpointId, Hash, ModelSpec, RunId};
use templar_model::hf::{self, ExportOptions, FolderContents, SpecialIds, WeightType};

const FROM: CheckpointId = CheckpointId::new(Hash::from_bytes([1; 32]));
const TO: CheckpointId = CheckpointId::new(Hash::from_bytes([2; 32]));

/// A folder of files with a model before and after.
struct Bench {
    dir: tempfile::TempDir,
    spec: ModelSpec,
    before: Vec<f32>,
    after: Vec<f32>,
}

/// The files of a folder, by name.
type Files = BTreeMap<String, Vec<u8>>;

fn files(dir: &Path) -> Files {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

impl Bench {
    fn new() -> Self {
        let spec = templar_model::sizes::preset("tiny", 64).unwrap();
        let count: usize = templar_model::tensors(&spec).unwrap().iter().map(|tensor| tensor.elements()).sum();
        let before: Vec<f32> = (0..count).map(|place| ((place * 7919 % 1009) as f32 - 504.0) / 1024.0).collect();
        let mut after = before.clone();
        // One weight in thirty changes, and one tensor not at all.
        let first = templar_model::tensors(&spec).unwrap()[0].elements();
        after[first..].iter_mut().step_by(30).for_each(|weight| *weight += 1.0 / 512.0);
        Self { dir: tempfile::tempdir().unwrap(), spec, before, after }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn export(&self, name: &str, params: &[f32], card: &str, weights: WeightType, most: Option<u64>) -> PathBuf {
        let dir = self.path(name);
        let options = ExportOptions { weights, max_shard_bytes: most, card: Some(card) };
        hf::export_with(&dir, &self.contents(params), &options).unwrap();
        dir
    }

    fn contents<'a>(&'a self, params: &'a [f32]) -> FolderContents<'a> {
        static CONFIG: std::sync::OnceLock<serde_json::Value> = std::sync::OnceLock::new();
        let tokenizer_config = CONFIG.get_or_init(|| json!({ "a": 1 }));
        let special = SpecialIds { start: None, end: 0 };
        FolderContents { spec: &self.spec, params, special, tokenizer: b"{}", tokenizer_config }
    }

    fn patch(&self, name: &str, weights: WeightType) -> PathBuf {
        let path = self.path(name);
        let contents = PatchContents {
            run: RunId::default(),
            from: FROM,
            to: TO,
            tensors: &templar_model::tensors(&self.spec).unwrap(),
            before: &self.before,
            after: &self.after,
            weights,
            files: vec![("README.md", b"after".to_vec())],
        };
        let length = patch::write(&path, &contents).unwrap();
        assert_eq!(length, fs::metadata(&path).unwrap().len());
        assert!(matches!(patch::write(&path, &contents), Err(PatchError::Exists { .. })));
        path
    }
}

#[test]
fn a_patched_folder_is_the_whole_export() {
    let bench = Bench::new();
    for (weights, most) in [(WeightType::F32, None), (WeightType::F32, Some(20_000)), (WeightType::Bf16, None)] {
        let name = format!("{weights:?}-{most:?}");
        let folder = bench.export(&name, &bench.before, "before", weights, most);
        let whole = bench.export(&format!("{name}-whole"), &bench.after, "after", weights, most);
        fs::write(folder.join("mine"), "stays").unwrap();
        let patch = bench.patch(&format!("{name}-patch"), weights);
        let done = Patched { run: RunId::default(), from: FROM, to: TO, tensors: 0 };
        let patched = patch::apply(&patch, &folder).unwrap();
        assert_eq!((patched.from, patched.to), (FROM, TO));
        assert!(patched.tensors > 3);
        let mut found = files(&folder);
        assert_eq!(found.remove("mine"), Some(b"stays".to_vec()));
        assert!(found == files(&whole), "{name}");
        let sizes = [&patch, &whole.join("README.md")].map(|path| fs::metadata(path).unwrap().len());
        let all: usize = found.values().map(Vec::len).sum();
        assert!(sizes[0] < all as u64 / 4, "{name}: {} of {all}", sizes[0]);
        // Once more changes nothing, and so does a patch that was interrupted between two files.
        assert_eq!(patch::apply(&patch, &folder).unwrap(), done);
        assert!(files(&folder).len() == found.len() + 1);
    }
}

#[test]
fn an_interrupted_patch_goes_on() {
    let bench = Bench::new();
    let folder = bench.export("folder", &bench.before, "before", WeightType::F32, Some(20_000));
    let whole = bench.export("whole", &bench.after, "after", WeightType::F32, Some(20_000));
    let patch = bench.patch("patch", WeightType::F32);
    let name = "model-00002-of-";
    let done = files(&whole).into_iter().find(|(file, _)| file.starts_with(name)).unwrap();
    fs::write(folder.join(&done.0), &done.1).unwrap();
    patch::apply(&patch, &folder).unwrap();
    assert!(files(&folder) == files(&whole));
}

/// Applies a patch that must be refused, and compares the folder before and after.
fn refused(patch: &Path, folder: &Path) -> PatchError {
    let before = files(folder);
    let error = patch::apply(patch, folder).unwrap_err();
    assert!(files(folder) == before, "{error}");
    error
}

#[test]
fn another_base_and_a_damaged_one_are_refused() {
    let bench = Bench::new();
    let patch = bench.patch("patch", WeightType::F32);
    let other: Vec<f32> = bench.before.iter().map(|weight| weight + 1.0).collect();
    let other = bench.export("other", &other, "", WeightType::F32, None);
    assert!(matches!(refused(&patch, &other), PatchError::OtherBase { from: FROM }));

    let mut damaged = bench.before.clone();
    let last = damaged.len() - 1;
    damaged[last] = f32::from_bits(damaged[last].to_bits() ^ 1);
    let damaged = bench.export("damaged", &damaged, "", WeightType::F32, None);
    let tensors = templar_model::tensors(&bench.spec).unwrap();
    let error = refused(&patch, &damaged);
    assert!(
        matches!(&error, PatchError::DamagedBase { tensor, from: FROM } if *tensor == tensors.last().unwrap().name),
        "{error}"
    );

    let rounded = bench.export("rounded", &bench.before, "", WeightType::Bf16, None);
    let error = refused(&patch, &rounded);
    assert!(matches!(error, PatchError::Folder { .. }) && error.to_string().contains("BF16"), "{error}");
    let weights = bench.export("cut", &bench.before, "", WeightType::F32, None).join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(refused(&patch, &bench.path("cut")), PatchError::Folder { .. }));
    fs::remove_file(&weights).unwrap();
    assert!(matches!(refused(&patch, &bench.path("cut")), PatchError::Io { .. }));
}

#[test]
fn a_patch_that_is_cut_or_changed_is_refused_at_every_byte() {
    let bench = Bench::new();
    let folder = bench.export("folder", &bench.before, "before", WeightType::F32, None);
    let patch = bench.patch("patch", WeightType::F32);
    let whole = fs::read(&patch).unwrap();
    let odd = bench.path("odd");
    let before = files(&folder);
    let lengths = (0..200).chain((200..whole.len()).step_by(97)).chain([whole.len() - 1]);
    for length in lengths {
        fs::write(&odd, &whole[..length]).unwrap();
        let error = patch::apply(&odd, &folder).unwrap_err();
        assert!(matches!(error, PatchError::NoPatch { .. } | PatchError::Damaged { .. }), "{length}: {error}");
    }
    for place in (0..64).chain((64..whole.len()).step_by(89)) {
        let mut changed = whole.clone();
        changed[place] ^= 0x10;
        fs::write(&odd, changed).unwrap();
        let error = patch::apply(&odd, &folder).unwrap_err();
        assert!(matches!(error, PatchError::NoPatch { .. } | PatchError::Damaged { .. }), "{place}: {error}");
    }
    assert!(files(&folder) == before);
}

/// A patch with a hash of its own, made by somebody who means harm.
#[test]
fn a_patch_that_lies_is_refused() {
    let bench = Bench::new();
    let folder = bench.export("folder", &bench.before, "before", WeightType::F32, None);
    let whole = fs::read(bench.patch("patch", WeightType::F32)).unwrap();
    let length = u32::from_le_bytes(whole[16..20].try_into().unwrap()) as usize;
    let head: serde_json::Value = serde_json::from_slice(&whole[20..20 + length]).unwrap();
    let lie = |change: &dyn Fn(&mut serde_json::Value), body: &dyn Fn(&mut Vec<u8>)| {
        let (mut head, mut rest) = (head.clone(), whole[20 + length..whole.len() - 32].to_vec());
        change(&mut head);
        body(&mut rest);
        let head = head.to_string();
        let mut bytes = [&whole[..16], &(head.len() as u32).to_le_bytes(), head.as_bytes(), &rest].concat();
        bytes.extend(blake3::hash(&bytes).as_bytes());
        let path = bench.path("lie");
        fs::write(&path, bytes).unwrap();
        refused(&path, &folder)
    };
    let keep = |_: &mut Vec<u8>| {};
    let no_patch = |error: PatchError, words: &str| {
        assert!(matches!(error, PatchError::NoPatch { .. }) && error.to_string().contains(words), "{error}");
    };
    for name in ["../../evil", "model.safetensors", ".ssh"] {
        no_patch(lie(&|head| head["files"][0]["name"] = json!(name), &keep), "replaces");
    }
    no_patch(lie(&|head| head["more"] = json!(1), &keep), "more");
    no_patch(lie(&|head| head["tensors"][0]["bytes"] = json!(5), &keep), "does not belong");
    let error = lie(&|head| head["tensors"][1]["bytes"] = json!(u64::MAX), &keep);
    assert!(matches!(error, PatchError::Damaged { .. }), "{error}");
    let error = lie(&|head| head["files"][0]["hash"] = json!("00".repeat(32)), &keep);
    assert!(error.to_string().contains("README.md"), "{error}");
    // A part that unpacks to far more than the tensor has.
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
    let sizes: Vec<usize> =
        head["tensors"].as_array().unwrap().iter().map(|tensor| tensor["bytes"].as_u64().unwrap() as usize).collect();
    let readme = head["files"][0]["bytes"].as_u64().unwrap() as usize;
    let error = lie(&|head| head["tensors"][1]["bytes"] = json!(bomb.len()), &|rest| {
        rest.splice(readme..readme + sizes[1], bomb.iter().copied());
    });
    assert!(error.to_string().contains("does not unpack"), "{error}");
    // A tensor that is not what the patch says.
    let error = lie(&|head| head["tensors"][1]["after"] = json!("ab".repeat(32)), &keep);
    assert!(error.to_string().contains("another tensor"), "{error}");
    let error = lie(&|head| head["tensors"][0]["shape"] = json!([1]), &keep);
    assert!(matches!(error, PatchError::Folder { .. }), "{error}");
}
