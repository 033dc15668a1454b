//! The exit code and hint of each kind of error.

use std::path::PathBuf;

use templar_manifest::RunId;

use super::*;

fn code(error: impl Into<CommandError>) -> (Code, bool) {
    let error = error.into();
    (error.code(), error.hint.is_some())
}

#[test]
fn errors_have_the_codes_of_the_table() {
    let path = || PathBuf::from("home");
    let id = Hash::of(b"blob");
    assert_eq!(code(HomeError::Missing(path())), (Code::NoHome, true));
    assert_eq!(code(AccessError::Home(HomeError::Locked(path()))), (Code::Locked, true));
    let denied = || std::io::Error::from(ErrorKind::PermissionDenied);
    assert_eq!(code(HomeError::ReadOnly { path: path(), source: denied() }), (Code::Failed, true));
    assert_eq!(code(HomeError::NoLocks { path: path(), source: denied() }), (Code::Failed, true));
    assert_eq!(code(BlobExportError::Exists { path: path() }), (Code::Failed, true));
    assert_eq!(code(HomeError::Key { path: path(), reason: "short".to_owned() }), (Code::BadKey, true));
    assert_eq!(code(AccessError::Run(RunError::None)), (Code::NotFound, true));
    assert_eq!(code(ReadError::NotFound { id }), (Code::NotFound, true));
    assert_eq!(code(ReadError::Corrupt { id, reason: "bits".to_owned() }), (Code::Verification, true));
    assert_eq!(code(WorkError::Stopped), (Code::Interrupted, false));
    assert_eq!(code(InputError::Withheld { what: "delta".to_owned() }), (Code::Partial, false));
    assert_eq!(code(InputError::Damaged { blob: id, what: "delta".to_owned() }), (Code::Partial, true));
    assert_eq!(code(PutError::DiskFull), (Code::Failed, true));
    assert_eq!(code(SyncError::DiskFull), (Code::Failed, true));
    assert_eq!(code(ConfigureError::Form("x".to_owned())), (Code::Usage, false));
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    assert_eq!(code(HomeError::Io { path: path(), source: full }), (Code::Failed, true));
}

#[test]
fn a_file_in_the_place_of_a_folder_has_a_hint() {
    let error = || std::io::Error::from(ErrorKind::NotADirectory);
    let path = PathBuf::from("file");
    assert_eq!(code(HomeError::Io { path: path.join("format"), source: error() }), (Code::Failed, true));
    assert_eq!(code(ExportError::Io { path, source: error() }), (Code::Failed, true));
}

#[test]
fn causes_follow_and_are_not_said_twice() {
    let source = ReadError::NotFound { id: Hash::default() };
    let error = AccessError::Run(RunError::Read { kind: "genesis", id: Hash::default(), source });
    let lines = CommandError::from(error).lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("the genesis manifest") && lines[1].ends_with("is not here"));
    let error = AccessError::Run(RunError::Unknown(RunId::default()));
    assert_eq!(CommandError::from(error).lines().len(), 1);
}

#[test]
fn causes_are_told_without_the_words_of_the_reader_of_json() {
    let source = serde_json::from_str::<serde_json::Value>("{\n\"a\" 3}").unwrap_err();
    let raw = source.to_string();
    let error = templar_model::hf::ImportError::Parse { path: "config.json".into(), source };
    let lines = CommandError::from(OpenFolderError::Folder(error)).lines();
    assert_eq!(lines.last().unwrap(), "at line 2, byte 5: expected `:`");
    assert!(!lines.contains(&raw), "{lines:?}");
}

#[test]
fn exit_codes_are_the_documented_numbers() {
    let codes = [Code::Ok, Code::Failed, Code::Usage, Code::NotFound, Code::Verification, Code::Partial];
    assert_eq!(codes.map(|code| code as u8), [0, 1, 2, 3, 4, 5]);
    let codes = [Code::NoHome, Code::Locked, Code::BadKey, Code::Interrupted, Code::Bug];
    assert_eq!(codes.map(|code| code as u8), [10, 11, 12, 130, 255]);
}
