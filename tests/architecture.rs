//! The workspace keeps to its layers, and every source file to its form.
//!
//! The dependencies are read from `cargo metadata` and the files from the disk. These tests link no other
//! crate, so a crate that breaks a rule is still named.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Every crate with its layer, in the order in which crates may be used. A crate uses lower layers, and crates
/// that stand earlier in its own. `crates/README.md` has the same table with the reasons.
const LAYERS: [(&str, u8); 18] = [
    ("templar-manifest", 0),
    ("templar-blob", 0),
    ("templar-numerics", 0),
    ("templar-device", 1),
    ("templar-protocol", 1),
    ("templar-model", 1),
    ("templar-delta", 1),
    ("templar-store", 1),
    ("templar-data", 2),
    ("templar-train", 2),
    ("templar-audit", 2),
    ("templar-net", 2),
    ("templar-home", 3),
    ("templar-query", 3),
    ("templar-node", 3),
    ("templar-testkit", 3),
    ("templar-sim", 3),
    ("templar-cli", 4),
];

/// Crates of one layer of which neither may use the other.
const STRANGERS: [(&str, &str); 1] = [("templar-sim", "templar-node")];

/// Crates that only compute. They have no runtime, no sockets and no randomness of their own.
const PURE: [&str; 9] = [
    "templar-manifest",
    "templar-blob",
    "templar-device",
    "templar-numerics",
    "templar-protocol",
    "templar-model",
    "templar-delta",
    "templar-train",
    "templar-audit",
];
const IMPURE_DEPENDENCIES: [&str; 7] = ["tokio", "iroh", "iroh-blobs", "iroh-gossip", "rand", "getrandom", "axum"];

/// The largest number of lines that a source file may have.
const MAX_LINES: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A dependency: its name, and whether it is needed for more than tests.
struct Edge {
    to: String,
    is_normal: bool,
}

/// The dependencies of every package of the workspace.
fn edges() -> BTreeMap<String, Vec<Edge>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let edge = |dependency: &Value| Edge { to: text(&dependency["name"]), is_normal: dependency["kind"].is_null() };
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter().map(edge).collect();
            (text(&package["name"]), dependencies)
        })
        .collect()
}

fn place(name: &str) -> Option<(usize, u8)> {
    LAYERS.iter().position(|(known, _)| *known == name).map(|place| (place, LAYERS[place].1))
}

#[test]
fn every_edge_leads_down() {
    for (from, dependencies) in edges().iter().filter(|(name, _)| *name != "templar") {
        let Some((own_place, _)) = place(from) else { panic!("{from} has no layer: add it to the table") };
        for to in dependencies.iter().map(|edge| edge.to.as_str()).filter(|name| name.starts_with("templar")) {
            let Some((place, _)) = place(to) else { panic!("{from} uses {to}, which has no layer") };
            assert!(place < own_place, "{from} uses {to}, which is not below or before it");
            assert!(!STRANGERS.contains(&(from, to)), "{from} and {to} may not know each other");
        }
    }
    assert!(LAYERS.is_sorted_by_key(|(_, layer)| *layer));
}

#[test]
fn what_only_computes_names_no_runtime() {
    for (from, dependencies) in edges().iter().filter(|(name, _)| PURE.contains(&name.as_str())) {
        for edge in dependencies.iter().filter(|edge| edge.is_normal) {
            assert!(!IMPURE_DEPENDENCIES.contains(&edge.to.as_str()), "{from} uses {}", edge.to);
        }
    }
}

/// An audit opens no socket: of everything it uses, the store alone knows iroh-blobs, and nothing an endpoint.
#[test]
fn an_audit_reaches_no_endpoint() {
    let edges = edges();
    let mut reached = BTreeSet::new();
    let mut next = vec!["templar-audit".to_owned()];
    while let Some(name) = next.pop() {
        let Some(dependencies) = edges.get(&name) else { continue };
        if !reached.insert(name.clone()) {
            continue;
        }
        for edge in dependencies.iter().filter(|edge| edge.is_normal) {
            let allowed = !edge.to.starts_with("iroh") || (name == "templar-store" && edge.to == "iroh-blobs");
            assert!(allowed, "templar-audit reaches {name}, which uses {}", edge.to);
            next.push(edge.to.clone());
        }
    }
    assert!(!reached.contains("templar-net"), "templar-audit reaches templar-net");
}

/// `crates/README.md` has the same table: the same crates in the same order, each with a paragraph of its own.
#[test]
fn every_crate_is_described() {
    let readme = std::fs::read_to_string(root().join("crates/README.md")).unwrap();
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | `templar-"));
    let row = |(layer, rest): (&str, &str)| Some((format!("templar-{}", rest.split('`').next()?), layer.parse().ok()?));
    let table: Vec<(String, u8)> = rows.filter_map(row).collect();
    let edges = edges();
    let layers = LAYERS.iter().filter(|(name, _)| edges.contains_key(*name));
    let expected: Vec<(String, u8)> = layers.map(|(name, layer)| ((*name).to_owned(), *layer)).collect();
    assert_eq!(table, expected, "left crates/README.md, right the workspace");
    for (name, _) in expected {
        assert!(readme.lines().any(|line| line.starts_with(&format!("**`{name}`**"))), "no paragraph about {name}");
    }
}

/// Every file that `crates/README.md` names in its table of changes exists.
#[test]
fn every_named_file_is_there() {
    let readme = std::fs::read_to_string(root().join("crates/README.md")).unwrap();
    let (_, changes) = readme.split_once("## Where to make a change").unwrap();
    for row in changes.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | ")).map(|(_, files)| files) {
        let mut folder = root().join("crates");
        for name in row.split('`').skip(1).step_by(2).filter(|name| name.contains('.') || name.ends_with('/')) {
            let path = match name.split_once('/') {
                Some(("manifests", _)) => root().join(name),
                Some((name_of_crate, _)) if name_of_crate.starts_with("templar-") => root().join("crates").join(name),
                // Beside the file named before it.
                _ => folder.join(name),
            };
            assert!(path.exists(), "crates/README.md names {name}, which is not there");
            folder = if path.is_dir() { path } else { path.parent().unwrap().to_owned() };
        }
    }
}

/// The files below `folder` with one of these endings.
fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = vec![root().join(folder)];
    while let Some(folder) = next.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                next.push(path);
            } else if endings.iter().any(|ending| path.extension().is_some_and(|found| found == *ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(PathBuf, String)> {
    let paths = files("crates", &["rs"]).into_iter().chain(files("tests", &["rs"]));
    paths.map(|path| (path.strip_prefix(root()).unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())).collect()
}

/// Whether `text` holds `word` that does not go on to the left.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[test]
fn every_source_file_has_its_form() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let mut fault = |what: &str| faults.push(format!("{}: {what}", path.display()));
        if !text.starts_with("//! ") {
            fault("does not say what it is for");
        }
        if text.lines().count() > MAX_LINES {
            fault("is too long");
        }
        if path.file_name().is_some_and(|name| name == "mod.rs") {
            fault("is called mod.rs");
        }
        for word in [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("FIX", "ME"), concat!("X", "XX")] {
            if text.contains(word) {
                fault(&format!("holds {word}"));
            }
        }
        for name in ["Helper", "Util", "Utils", "Manager"] {
            for item in ["struct ", "enum ", "trait "] {
                let named = |line: &str| {
                    line.split_once(item).is_some_and(|(_, rest)| {
                        let name_end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
                        rest[..name_end].ends_with(name)
                    })
                };
                if text.lines().any(|line| line.trim_start().starts_with("pub") && named(line)) {
                    fault(&format!("has a public {item}called {name}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A library never prints, exits or reads the environment. Only the command line does.
#[test]
fn only_the_command_line_prints() {
    let mut faults = Vec::new();
    let words = ["println!(", "print!(", "eprintln!(", "eprint!(", "process::exit(", "env::var(", "env::args("];
    for (path, text) in sources() {
        let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
        let is_library = parts[0] == "crates" && parts[1] != "templar-cli" && parts[2] == "src";
        if !is_library || parts.iter().any(|part| part.starts_with("tests")) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.trim_start();
            if !code.starts_with("//") && words.iter().any(|word| has_word(code, word)) {
                faults.push(format!("{}:{}: {code}", path.display(), number + 1));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// No file names a path that exists on one machine only.
#[test]
fn no_file_names_a_machine() {
    let folders = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];
    let mut faults = Vec::new();
    for folder in ["crates", "tests", "manifests", "datasets"] {
        for path in files(folder, &["rs", "md", "toml", "json"]) {
            let text = std::fs::read_to_string(&path).unwrap();
            let named = folders.iter().filter(|folder| text.contains(**folder));
            faults.extend(named.map(|folder| format!("{} names {folder}", path.display())));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
