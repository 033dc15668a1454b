//! Listings: what an import takes of folders as people have them, and what it leaves out with which reason.

use std::fs;
use std::path::{Path, PathBuf};

use templar_data::{Listing, ListingError, Reason};

/// A folder with files of these names, each with a line of JSON.
fn folder(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "{\"text\": \"a\"}\n").unwrap();
    }
    folder
}

fn listed(path: &Path) -> Listing {
    Listing::of(&[path.to_owned()]).unwrap()
}

/// The names of what is taken, and the names with the reasons of what is left out, below `root`.
fn names(listing: &Listing, root: &Path) -> (Vec<String>, Vec<(String, Reason)>) {
    let name = |path: &Path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
    let left_out = listing.left_out.iter().map(|left_out| (name(&left_out.path), left_out.reason));
    (listing.taken.iter().map(|file| name(&file.path)).collect(), left_out.collect())
}

/// Checks what is taken of a folder with files of these names, and what is left out.
fn check(all: &[&str], taken: &[&str], left_out: &[(&str, Reason)]) {
    let folder = folder(all);
    let (found, found_out) = names(&listed(folder.path()), folder.path());
    assert_eq!(found, taken);
    let left_out: Vec<_> = left_out.iter().map(|(name, reason)| ((*name).to_owned(), *reason)).collect();
    assert_eq!(found_out, left_out);
}

#[test]
fn files_come_in_the_order_of_their_names() {
    let all = ["b.jsonl", "a/2.jsonl", "a/1.jsonl", "B.JSONL", "a.jsonl", "10.jsonl", "9.jsonl"];
    check(&all, &["10.jsonl", "9.jsonl", "B.JSONL", "a/1.jsonl", "a/2.jsonl", "a.jsonl", "b.jsonl"], &[]);
}

#[test]
fn a_folder_of_spark() {
    check(
        &[
            "_SUCCESS",
            "._SUCCESS.crc",
            ".part-0.snappy.parquet.crc",
            "part-0.snappy.parquet",
            "_temporary/0/x.parquet",
            "_delta_log/0.json",
        ],
        &["part-0.snappy.parquet"],
        &[
            ("._SUCCESS.crc", Reason::Hidden),
            (".part-0.snappy.parquet.crc", Reason::Hidden),
            ("_SUCCESS", Reason::ToolMark),
            ("_delta_log", Reason::ToolMark),
            ("_temporary", Reason::ToolMark),
        ],
    );
}

#[test]
fn a_folder_of_dask_or_hive() {
    check(
        &[
            "_metadata",
            "_common_metadata",
            "part=1/0.parquet",
            "part=2/0.parquet",
            "_year=2024/0.parquet",
            "split=test/0.parquet",
        ],
        &["_year=2024/0.parquet", "part=1/0.parquet", "part=2/0.parquet"],
        &[("_common_metadata", Reason::ToolMark), ("_metadata", Reason::ToolMark), ("split=test", Reason::Split)],
    );
}

#[test]
fn a_snapshot_of_hugging_face() {
    check(
        &[
            ".cache/huggingface/download/data/train-00000-of-00001.parquet.metadata",
            ".gitattributes",
            "README.md",
            "LICENSE.txt",
            "requirements.txt",
            "notes.txt",
            "dataset_infos.json",
            "data/train-00000-of-00001.parquet",
            "data/test-00000-of-00001.parquet",
            "data/validation-00000-of-00001.parquet",
        ],
        &["data/train-00000-of-00001.parquet"],
        &[
            (".cache", Reason::Hidden),
            (".gitattributes", Reason::Hidden),
            ("LICENSE.txt", Reason::About),
            ("README.md", Reason::About),
            ("data/test-00000-of-00001.parquet", Reason::Split),
            ("data/validation-00000-of-00001.parquet", Reason::Split),
            ("dataset_infos.json", Reason::Settings),
            ("notes.txt", Reason::BesideTables),
            ("requirements.txt", Reason::About),
        ],
    );
}

#[test]
fn what_operating_systems_editors_and_downloads_leave() {
    check(
        &[
            "a.jsonl",
            "._a.jsonl",
            ".DS_Store",
            "__MACOSX/a.jsonl",
            "Thumbs.db",
            "desktop.ini",
            "a.jsonl~",
            ".a.jsonl.swp",
            "b.jsonl.part",
            "c.jsonl.crdownload",
            "d.incomplete",
            ".git/x.jsonl",
            "e.jsonl.tmp",
            "notes.docx",
        ],
        &["a.jsonl"],
        &[
            (".DS_Store", Reason::Hidden),
            ("._a.jsonl", Reason::Hidden),
            (".a.jsonl.swp", Reason::Unfinished),
            (".git", Reason::Hidden),
            ("Thumbs.db", Reason::System),
            ("__MACOSX", Reason::System),
            ("a.jsonl~", Reason::Unfinished),
            ("b.jsonl.part", Reason::Unfinished),
            ("c.jsonl.crdownload", Reason::Unfinished),
            ("d.incomplete", Reason::Unfinished),
            ("desktop.ini", Reason::System),
            ("e.jsonl.tmp", Reason::Unfinished),
            ("notes.docx", Reason::UnknownKind),
        ],
    );
}

#[test]
fn plain_text_is_data_where_there_are_no_tables() {
    check(&["hamlet.txt", "README.txt", "a.jsonl"], &["a.jsonl", "hamlet.txt"], &[("README.txt", Reason::About)]);
}

#[test]
fn raw_tokens_are_data_where_there_are_no_texts() {
    check(&["a.bin", "b.npy"], &["a.bin", "b.npy"], &[]);
    let tokens = [("model.bin", Reason::TokensBesideText), ("x/ids.npy", Reason::TokensBesideText)];
    check(&["a.jsonl", "model.bin", "x/ids.npy"], &["a.jsonl"], &tokens);
}

#[test]
fn the_index_beside_tokens_is_not_left_out() {
    check(
        &["a.bin", "a.idx", "b.idx", "val.bin"],
        &["a.bin"],
        &[("b.idx", Reason::UnknownKind), ("val.bin", Reason::Split)],
    );
}

#[test]
fn what_is_named_is_taken() {
    let folder = folder(&["LICENSE.txt", ".hidden.jsonl", "data/test.jsonl", "data/train.jsonl", "_x/a.jsonl"]);
    let at = |name: &str| folder.path().join(name);
    for name in ["LICENSE.txt", ".hidden.jsonl", "data/test.jsonl"] {
        assert_eq!(listed(&at(name)).taken.len(), 1, "{name}");
    }
    assert_eq!(names(&listed(&at("_x")), folder.path()).0, ["_x/a.jsonl"]);
    // What is named and in a named folder is read once, where it is named first.
    let listing = Listing::of(&[at("data/test.jsonl"), at("data"), at("data")]).unwrap();
    let (taken, left_out) = names(&listing, folder.path());
    assert_eq!(taken, ["data/test.jsonl", "data/train.jsonl"]);
    assert_eq!(left_out, [("data/test.jsonl".to_owned(), Reason::Split), ("data".to_owned(), Reason::Repeated)]);
    let names: Vec<_> = listing.taken.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["test.jsonl", "train.jsonl"]);
}

#[test]
fn a_folder_that_is_named_as_a_split_gives_its_files() {
    let folder = folder(&["test/test-00000.jsonl", "test/a.jsonl", "test/LICENSE"]);
    let listing = listed(&folder.path().join("test"));
    assert_eq!(names(&listing, folder.path()).0, ["test/a.jsonl", "test/test-00000.jsonl"]);
}

#[test]
fn a_folder_without_data_says_what_is_in_it() {
    let folder = folder(&["test.jsonl", "notes.docx", "a.md", "b.md", "c.md"]);
    let error = Listing::of(&[folder.path().to_owned()]).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ListingError::EmptyFolder { left_out, .. } if left_out.len() == 5));
    assert!(
        text.ends_with("a.md (of no known kind), b.md (of no known kind), c.md (of no known kind), and 2 more"),
        "{text}"
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(Listing::of(&[empty.path().to_owned()]).unwrap_err().to_string().ends_with("holds nothing to import"));
    assert!(matches!(Listing::of(&[]), Err(ListingError::NoSources)));
    let absent = folder.path().join("absent");
    assert!(matches!(Listing::of(std::slice::from_ref(&absent)), Err(ListingError::Missing(path)) if path == absent));
}

#[cfg(unix)]
mod links {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_dead_link_without_the_name_of_data_is_passed_by() {
        let folder = folder(&["a.jsonl"]);
        symlink("/nonexistent/cache", folder.path().join("current")).unwrap();
        symlink("circle", folder.path().join("circle")).unwrap();
        symlink("/nonexistent", folder.path().join(".x.jsonl")).unwrap();
        let (taken, left_out) = names(&listed(folder.path()), folder.path());
        assert_eq!(taken, ["a.jsonl"]);
        let expected = [(".x.jsonl", Reason::Hidden), ("circle", Reason::DeadLink), ("current", Reason::DeadLink)];
        assert_eq!(left_out, expected.map(|(name, reason)| (name.to_owned(), reason)));
    }

    #[test]
    fn a_dead_link_with_the_name_of_data_is_an_error() {
        for name in ["x.jsonl", "x.parquet", "x.txt", "x.jsonl.gz"] {
            let folder = folder(&["a.jsonl"]);
            symlink("/nonexistent/x", folder.path().join(name)).unwrap();
            let error = Listing::of(&[folder.path().to_owned()]).unwrap_err();
            assert!(matches!(&error, ListingError::DeadLink { path, .. } if path.ends_with(name)), "{error}");
            assert!(error.to_string().ends_with("there is no /nonexistent/x"), "{error}");
        }
    }

    #[test]
    fn links_that_lead_back_or_to_the_same_place_end() {
        let folder = folder(&["a/1.jsonl", "b/2.jsonl"]);
        let at = |name: &str| folder.path().join(name);
        symlink("..", at("a/up")).unwrap();
        symlink("a", at("again")).unwrap();
        symlink("b/2.jsonl", at("two.jsonl")).unwrap();
        let (taken, left_out) = names(&listed(folder.path()), folder.path());
        assert_eq!(taken, ["a/1.jsonl", "b/2.jsonl"]);
        let expected = [("a/up", Reason::Circle), ("again", Reason::Repeated), ("two.jsonl", Reason::Repeated)];
        assert_eq!(left_out, expected.map(|(name, reason)| (name.to_owned(), reason)));
        // Every folder links to every other: the walk still enters each once.
        for from in 0..8 {
            fs::create_dir(at(&format!("d{from}"))).unwrap();
            for to in 0..8 {
                symlink(format!("../d{to}"), at(&format!("d{from}/to{to}"))).unwrap();
            }
        }
        let listing = listed(folder.path());
        assert_eq!((listing.taken.len(), listing.left_out.len()), (2, 3 + 64));
    }

    /// A cache of Hugging Face keeps the files aside, and a snapshot is a folder of links to them.
    #[test]
    fn links_out_of_the_folder_are_followed() {
        let folder = folder(&["blobs/3f1c", "snapshots/abc/README.md"]);
        symlink("../../blobs/3f1c", folder.path().join("snapshots/abc/train.jsonl")).unwrap();
        let listing = listed(&folder.path().join("snapshots/abc"));
        assert_eq!(names(&listing, folder.path()).0, ["snapshots/abc/train.jsonl"]);
        assert_eq!(listing.taken[0].link.as_deref(), Some(Path::new("../../blobs/3f1c")));
        assert_eq!((listing.taken[0].bytes, listing.bytes()), (14, 14));
    }

    #[test]
    fn sockets_and_pipes_are_never_opened() {
        let folder = folder(&["a.jsonl"]);
        let socket = folder.path().join("q.txt");
        let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let pipe = folder.path().join("p.jsonl");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let (taken, left_out) = names(&listed(folder.path()), folder.path());
        assert_eq!(taken, ["a.jsonl"]);
        let expected = ["p.jsonl", "q.txt"].map(|name| (name.to_owned(), Reason::Special));
        assert_eq!(left_out, expected);
        for path in [socket, pipe, "/dev/zero".into()] {
            assert!(matches!(Listing::of(&[path]), Err(ListingError::Special(_))));
        }
    }

    #[test]
    fn what_may_not_be_read_is_told_before_any_work() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = folder(&["a.jsonl", "b.jsonl", "sub/c.jsonl", "x.docx"]);
        let lock =
            |name: &str| fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o000)).unwrap();
        lock("x.docx");
        assert_eq!(listed(folder.path()).taken.len(), 3, "a file that is not taken need not be read");
        lock("b.jsonl");
        let is_root = fs::File::open(folder.path().join("b.jsonl")).is_ok();
        match Listing::of(&[folder.path().to_owned()]) {
            Ok(listing) => assert!(is_root && listing.taken.len() == 3),
            Err(error) => assert!(matches!(error, ListingError::Unreadable { path, .. } if path.ends_with("b.jsonl"))),
        }
    }

    #[test]
    fn names_that_are_no_text_are_taken_as_they_are() {
        let folder = folder(&["a.jsonl"]);
        let name = OsStr::from_bytes(b"\xff\xfe.jsonl");
        fs::write(folder.path().join(name), "{\"text\": \"b\"}\n").unwrap();
        let taken: Vec<PathBuf> = listed(folder.path()).taken.into_iter().map(|file| file.path).collect();
        assert_eq!(taken, [folder.path().join("a.jsonl"), folder.path().join(name)]);
    }
}
