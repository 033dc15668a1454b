//! The workspace keeps to its layers, and every source file to its form.
//!
//! The dependencies are read from `cargo metadata` and the files from the disk. These tests link no other
//! crate, so a crate that breaks a rule is still named. The dependencies are the resolved ones, so a rule holds for the
//! dependencies of dependencies too.

mod circles;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Every crate with its layer, in the order in which crates may be used. A crate uses lower layers, and crates
/// that stand earlier in its own. `crates/README.md` has the same table with the reasons.
const LAYERS: [(&str, u8); 22] = [
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
    ("templar-eval", 2),
    ("templar-export", 2),
    ("templar-audit", 2),
    ("templar-net", 2),
    ("templar-home", 3),
    ("templar-query", 3),
    ("templar-node", 3),
    ("templar-serve", 3),
    ("templar-testkit", 3),
    ("templar-sim", 3),
    ("templar-explore", 3),
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

/// How the names of crates start that run tasks or open sockets: none is among all that a pure crate is built from.
const IMPURE: [&str; 10] = ["tokio", "mio", "async-std", "smol", "socket2", "hyper", "axum", "quinn", "iroh", "noq"];

/// Crates that a pure crate does not use itself. Libraries below it may: a hash map draws its keys at random.
const RANDOM: [&str; 2] = ["rand", "getrandom"];

/// The largest number of lines that a source file may have.
const MAX_LINES: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The packages that the workspace is built from, as cargo resolves them for this machine.
struct Graph {
    /// The names of the workspace's own packages.
    members: BTreeSet<String>,
    /// By the id of a package: its name.
    names: BTreeMap<String, String>,
    /// By the id of a package: the packages that it is built or tested with.
    edges: BTreeMap<String, Vec<Edge>>,
}

/// A dependency: the id of the package, and whether it is needed for more than tests and build scripts.
struct Edge {
    to: String,
    is_normal: bool,
}

impl Graph {
    /// Asks cargo. The lock file names packages of other systems too, which are not on this machine: hence the filter.
    fn read() -> Self {
        let version = cargo(&["-vV"]);
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        let locked = ["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", host];
        let metadata: Value = serde_json::from_str(&cargo(&locked)).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let list = |value: &Value| value.as_array().unwrap().clone();
        let packages = list(&metadata["packages"]);
        let names: BTreeMap<String, String> =
            packages.iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
        let edge = |dependency: &Value| {
            let is_normal = list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            Edge { to: text(&dependency["pkg"]), is_normal }
        };
        let nodes = list(&metadata["resolve"]["nodes"]);
        let edges = nodes.iter().map(|node| (text(&node["id"]), list(&node["deps"]).iter().map(edge).collect()));
        let members = list(&metadata["workspace_members"]).into_iter().map(|id| names[id.as_str().unwrap()].clone());
        Self { members: members.collect(), edges: edges.collect(), names }
    }

    /// The direct dependencies of the workspace's packages: the name of each, and theirs.
    fn direct(&self) -> BTreeMap<&str, Vec<(&str, bool)>> {
        let members = self.edges.iter().filter(|(id, _)| self.members.contains(&self.names[*id]));
        let direct = |edge: &Edge| (self.names[&edge.to].as_str(), edge.is_normal);
        members.map(|(id, edges)| (self.names[id].as_str(), edges.iter().map(direct).collect())).collect()
    }

    /// Everything that a package of the workspace needs to be built, directly or not, and by way of which package.
    fn reached<'a>(&'a self, name: &str) -> BTreeMap<&'a str, &'a str> {
        let start = self.names.iter().find(|(_, known)| *known == name).map(|(id, _)| id).unwrap();
        let (mut reached, mut next) = (BTreeMap::new(), vec![start]);
        while let Some(id) = next.pop() {
            for edge in self.edges[id].iter().filter(|edge| edge.is_normal) {
                if !reached.contains_key(self.names[&edge.to].as_str()) {
                    reached.insert(self.names[&edge.to].as_str(), self.names[id].as_str());
                    next.push(&edge.to);
                }
            }
        }
        reached
    }
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn place(name: &str) -> Option<(usize, u8)> {
    LAYERS.iter().position(|(known, _)| *known == name).map(|place| (place, LAYERS[place].1))
}

#[test]
fn every_edge_leads_down() {
    let graph = Graph::read();
    for (from, dependencies) in graph.direct().into_iter().filter(|(name, _)| *name != "templar") {
        let Some((own_place, _)) = place(from) else { panic!("{from} has no layer: add it to the table") };
        for (to, _) in dependencies.into_iter().filter(|(name, _)| graph.members.contains(*name)) {
            let Some((place, _)) = place(to) else { panic!("{from} uses {to}, which has no layer") };
            assert!(place < own_place, "{from} uses {to}, which is not below or before it");
        }
    }
    assert!(LAYERS.is_sorted_by_key(|(_, layer)| *layer));
}

/// The simulator and a node share rules and nothing else: the one is not built from the other, through no other crate.
#[test]
fn strangers_are_not_built_from_each_other() {
    for (from, other) in STRANGERS {
        // The graph of the whole workspace has the features of all packages; this is the package as it asks for them.
        let built_from = cargo(&["tree", "--offline", "--package", from, "--edges", "normal", "--prefix", "none"]);
        assert!(built_from.starts_with(from));
        assert!(!built_from.lines().any(|line| line.split(' ').next() == Some(other)), "{from} is built from {other}");
    }
}

/// Crates that compute draw no random numbers, and nothing that they are built from runs tasks or opens sockets.
#[test]
fn what_only_computes_reaches_no_runtime() {
    let graph = Graph::read();
    let direct = graph.direct();
    for name in PURE {
        for (to, _) in direct[name].iter().filter(|(_, is_normal)| *is_normal) {
            assert!(!RANDOM.contains(to), "{name} uses {to}");
        }
        for (to, through) in graph.reached(name) {
            let is_impure = IMPURE.iter().any(|prefix| to.starts_with(prefix));
            assert!(!is_impure, "{name} reaches {to}, by way of {through}");
        }
    }
}

/// What only tests, demos and simulations use is in no node: the command line alone brings it in.
#[test]
fn the_testkit_is_in_no_production_code() {
    for (from, dependencies) in Graph::read().direct() {
        let is_used = dependencies.contains(&("templar-testkit", true));
        assert!(!is_used || ["templar-cli", "templar-sim"].contains(&from), "{from} uses the testkit");
    }
}

/// `crates/README.md` has the same table: the same crates in the same order, each with a paragraph of its own.
#[test]
fn every_crate_is_described() {
    let readme = std::fs::read_to_string(root().join("crates/README.md")).unwrap();
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | `templar-"));
    let row = |(layer, rest): (&str, &str)| Some((format!("templar-{}", rest.split('`').next()?), layer.parse().ok()?));
    let table: Vec<(String, u8)> = rows.filter_map(row).collect();
    let members = Graph::read().members;
    let layers = LAYERS.iter().filter(|(name, _)| members.contains(*name));
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

/// Every file of a crate is a module of it, so that nothing lies there uncompiled.
#[test]
fn every_source_file_is_compiled() {
    let sources: BTreeMap<PathBuf, String> = sources().into_iter().collect();
    let is_module = |path: &PathBuf| {
        let (folder, name) = (path.parent().unwrap(), path.file_stem().unwrap().to_str().unwrap());
        let parents = [folder.with_extension("rs"), folder.join("lib.rs"), folder.join("main.rs")];
        let (here, inline) = (format!("mod {name};"), format!("mod {name} {{"));
        let names = |text: &String| has_word(text, &here) || has_word(text, &inline);
        matches!(name, "lib" | "main") || parents.iter().any(|parent| sources.get(parent).is_some_and(names))
    };
    let in_a_crate =
        |path: &&PathBuf| path.starts_with("crates") && path.iter().nth(2).is_some_and(|part| part == "src");
    let orphans: Vec<&PathBuf> = sources.keys().filter(in_a_crate).filter(|path| !is_module(path)).collect();
    assert!(orphans.is_empty(), "no module of their crates: {orphans:?}");
}

/// Every file that a document links to exists.
#[test]
fn every_link_in_a_document_leads_somewhere() {
    let mut faults = Vec::new();
    let documents = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(|name| root().join(name));
    let folders = ["crates", "tests", "manifests", "datasets", "findings"];
    for path in documents.into_iter().chain(folders.iter().flat_map(|folder| files(folder, &["md"]))) {
        // Code is left out: a formula there may look like a link.
        let text: String = std::fs::read_to_string(&path).unwrap().split('`').step_by(2).collect();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.starts_with("http")) {
            let file = target.split('#').next().unwrap();
            if !file.is_empty() && !path.parent().unwrap().join(file).exists() {
                faults.push(format!("{} links to {target}", path.display()));
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
