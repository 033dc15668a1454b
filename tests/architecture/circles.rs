//! No files of a crate import each other in a circle.
//!
//! A file imports another where it names something of it: in a `use`, or in a path such as
//! `crate::wire::parse(..)`. The reading is simple. It follows `use` through re-exports to the file that
//! defines the name; it leaves out comments, strings and whatever is compiled for tests alone. `mod child;` is
//! no import, nor is `pub use child::Name` where the parent does nothing else with the name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{files, root};

/// The path of a module or of something in it, from the root of its crate.
type ModulePath = Vec<String>;

/// One name that a `use` brings in: its path as written, and the name that it has from then on.
struct Import {
    path: ModulePath,
    name: String,
    is_public: bool,
}

/// A source file, cut into what the reading needs.
struct Module {
    path: PathBuf,
    imports: Vec<Import>,
    /// The text without comments, strings, tests and `use`.
    body: String,
}

impl Module {
    /// Whether the file defines an item of this name.
    fn defines(&self, name: &str) -> bool {
        ["fn", "struct", "enum", "trait", "type", "const", "static", "union"].iter().any(|keyword| {
            let item = format!("{keyword} {name}");
            self.body.match_indices(&item).any(|(at, _)| !self.body[at + item.len()..].starts_with(is_name))
        })
    }

    /// Whether the file does something with a name: it is a type or constant that occurs, or a function that is called.
    fn uses(&self, name: &str) -> bool {
        let is_function = name.starts_with(char::is_lowercase);
        // A closure of the same name is another one.
        if self.body.contains(&format!("let {name} =")) {
            return false;
        }
        self.body.match_indices(name).any(|(at, _)| {
            let after = &self.body[at + name.len()..];
            let is_word = !self.body[..at].ends_with(|c| is_name(c) || c == '.') && !after.starts_with(is_name);
            is_word && (!is_function || after.starts_with(['(', ':']))
        })
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The text with comments and the insides of strings and characters left out.
fn code(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(quote) = raw_string(rest, &kept) {
            let (start, end) = quote;
            start + rest[start..].find(&end).map_or(rest.len() - start, |at| at + end.len())
        } else if c == '"' {
            quoted(rest, '"')
        } else if c == '\'' && is_character(rest) {
            quoted(rest, '\'')
        } else {
            kept.push(c);
            c.len_utf8()
        };
        rest = &rest[skipped..];
    }
    kept
}

/// Where a raw string that starts here has its text, and what ends it.
fn raw_string(rest: &str, before: &str) -> Option<(usize, String)> {
    let hashes = rest.strip_prefix('r')?;
    let count = hashes.find(|c| c != '#')?;
    let is_raw = hashes[count..].starts_with('"') && !before.ends_with(|c| is_name(c) && c != 'b');
    is_raw.then(|| (count + 2, format!("\"{}", "#".repeat(count))))
}

/// Whether an apostrophe starts a character rather than a lifetime.
fn is_character(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    let (first, second) = (chars.next(), chars.next());
    first == Some('\\') || second == Some('\'')
}

/// The length of the string or character that starts here.
fn quoted(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if c == quote && !is_escaped {
            return at + 1;
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    rest.len()
}

/// The text without items for tests, and the names of the modules among them.
fn without_tests(code: &str) -> (String, BTreeSet<String>) {
    let (mut kept, mut modules) = (String::new(), BTreeSet::new());
    let mut pieces = code.split("#[cfg(test)]");
    kept.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let end = item_end(piece);
        let item = piece[..end].trim_end_matches(';').trim();
        if let Some(name) = item.strip_prefix("mod ") {
            modules.insert(name.split_whitespace().next().unwrap_or_default().to_owned());
        }
        kept.push_str(&piece[end..]);
    }
    (kept, modules)
}

/// Where the item that starts here ends: at its semicolon, or at the brace that closes its first one.
fn item_end(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Takes the `use` declarations out of a text.
fn take_imports(code: &str) -> (Vec<Import>, String) {
    let (mut imports, mut body) = (Vec::new(), String::new());
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let (before, declaration) = rest.split_at(at);
        body.push_str(before);
        let start = before.rsplit(['\n', ';', '}', '{']).next().unwrap_or_default().trim();
        let is_declaration = start.is_empty() || (start.starts_with("pub") && !start.contains("::"));
        let Some(end) = declaration.find(';').filter(|_| is_declaration) else {
            body.push_str("use ");
            rest = &declaration["use ".len()..];
            continue;
        };
        let mut names = Vec::new();
        expand(&[], declaration["use ".len()..end].trim(), &mut names);
        let is_public = start.starts_with("pub");
        imports.extend(names.into_iter().map(|(path, name)| Import { path, name, is_public }));
        rest = &declaration[end + 1..];
    }
    body.push_str(rest);
    (imports, body)
}

/// All names of a tree such as `a::{b, c::d as e}`, each with its whole path.
fn expand(before: &[String], tree: &str, names: &mut Vec<(ModulePath, String)>) {
    let mut path = before.to_vec();
    if let Some((prefix, group)) = tree.split_once('{') {
        path.extend(segments(prefix));
        let group = group.trim_end().strip_suffix('}').unwrap_or(group);
        let mut depth = 0_usize;
        let branches = group.split(|c| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        });
        for branch in branches.map(str::trim).filter(|branch| !branch.is_empty()) {
            expand(&path, branch, names);
        }
        return;
    }
    let (written, alias) = tree.split_once(" as ").map_or((tree, None), |(path, name)| (path, Some(name)));
    path.extend(segments(written));
    if path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let name = alias.or(path.last().map(String::as_str)).unwrap_or_default().trim().to_owned();
    names.push((path, name));
}

/// The names of a path. One that starts at another crate (`::name`) keeps an empty one at its start.
fn segments(path: &str) -> Vec<String> {
    let path = path.trim().trim_end_matches("::");
    if path.is_empty() { Vec::new() } else { path.split("::").map(|name| name.trim().to_owned()).collect() }
}

/// Every path of at least two names in a body, such as `crate::wire::parse`.
fn paths(body: &str) -> Vec<ModulePath> {
    let ends = |c: char| !(is_name(c) || c == ':');
    body.split(ends).filter(|word| word.contains("::")).map(segments).collect()
}

/// The modules of one crate, by their paths.
struct Sources(BTreeMap<ModulePath, Module>);

impl Sources {
    /// Reads a crate's `src` folder without its modules for tests.
    fn read(folder: &Path) -> Self {
        let (mut modules, mut for_tests) = (BTreeMap::new(), BTreeSet::new());
        for path in files(folder.to_str().unwrap(), &["rs"]) {
            let within = path.strip_prefix(root().join(folder)).unwrap().with_extension("");
            let mut module: ModulePath = within.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            match module.last().map(String::as_str) {
                Some("lib") => module.clear(),
                // Another crate, which uses the library.
                Some("main") if module.len() == 1 => continue,
                _ => {}
            }
            let (kept, tests) = without_tests(&code(&std::fs::read_to_string(&path).unwrap()));
            for_tests.extend(tests.into_iter().map(|name| [module.clone(), vec![name]].concat()));
            let (imports, body) = take_imports(&kept);
            let path = path.strip_prefix(root()).unwrap().to_owned();
            modules.insert(module, Module { path, imports, body });
        }
        modules.retain(|module, _| !for_tests.iter().any(|test| module.starts_with(test)));
        Self(modules)
    }

    /// The path from the root of the crate of what `module` calls `path`; none where it belongs to another crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<ModulePath> {
        let mut base = module.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                base.clear();
                rest = &path[1..];
            }
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            child if !self.0.contains_key(&[module, &[child.to_owned()]].concat()) => return None,
            _ => {}
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    /// The module whose file defines what lies at a path, through `steps` re-exports at most.
    fn owner(&self, path: &[String], steps: usize) -> ModulePath {
        let mut module = ModulePath::new();
        for (at, name) in path.iter().enumerate() {
            let child = [module.as_slice(), std::slice::from_ref(name)].concat();
            if self.0.contains_key(&child) {
                module = child;
                continue;
            }
            let Some(here) = self.0.get(&module).filter(|here| steps > 0 && !here.defines(name)) else { return module };
            let by_name = here.imports.iter().filter(|import| import.name == *name);
            let by_star = here.imports.iter().filter(|import| import.name == "*");
            for import in by_name.chain(by_star) {
                let mut target = import.path.clone();
                if import.name == "*" {
                    *target.last_mut().unwrap() = name.clone();
                }
                target.extend_from_slice(&path[at + 1..]);
                if let Some(target) = self.absolute(&module, &target) {
                    return self.owner(&target, steps - 1);
                }
            }
            return module;
        }
        module
    }

    /// The modules that each module imports.
    fn imports(&self) -> BTreeMap<&ModulePath, BTreeSet<ModulePath>> {
        let of = |(path, module): (&'_ ModulePath, &Module)| {
            let is_child = |import: &Import| self.0.contains_key(&[path.as_slice(), &import.path[..1]].concat());
            let counts = |import: &&Import| !(import.is_public && is_child(import)) || module.uses(&import.name);
            let used = module.imports.iter().filter(counts).map(|import| import.path.clone());
            let named = used.chain(paths(&module.body)).filter_map(|named| self.absolute(path, &named));
            named.map(|named| self.owner(&named, 8)).filter(|to| to != path).collect()
        };
        self.0.iter().map(|entry| (entry.0, of(entry))).collect()
    }

    /// The groups of files that import each other, and within each which imports which.
    fn circles(&self) -> Vec<String> {
        let imports = self.imports();
        let reaches = |from: &ModulePath| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
            while let Some(module) = next.pop() {
                let further = imports.get(module).into_iter().flatten();
                next.extend(further.filter(|to| seen.insert((*to).clone())));
            }
            seen
        };
        let reached: BTreeMap<&ModulePath, BTreeSet<ModulePath>> = self.0.keys().map(|m| (m, reaches(m))).collect();
        let mut groups = BTreeSet::new();
        for (module, reach) in &reached {
            let group: Vec<_> = reach.iter().filter(|other| reached[other].contains(*module)).collect();
            if group.len() > 1 {
                groups.insert(group.into_iter().cloned().collect::<Vec<_>>());
            }
        }
        let name = |module: &ModulePath| self.0[module].path.display().to_string();
        let told = |group: Vec<ModulePath>| {
            let edges = group.iter().flat_map(|from| imports[from].iter().map(move |to| (from, to)));
            let edges = edges.filter(|(_, to)| group.contains(to));
            let edges: Vec<String> = edges.map(|(from, to)| format!("  {} imports {}", name(from), name(to))).collect();
            edges.join("\n")
        };
        groups.into_iter().map(told).collect()
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let entry = entry.unwrap();
        let folder = Path::new("crates").join(entry.file_name()).join("src");
        if root().join(&folder).is_dir() {
            found.extend(Sources::read(&folder).circles());
        }
    }
    found.sort();
    assert!(found.is_empty(), "{} circles:\n{}", found.len(), found.join("\n\n"));
}

/// The reading finds what it should, and not more.
#[test]
fn circles_are_read_from_uses_and_paths() {
    let text = r##"
        //! use crate::comment;
        use crate::{a::{self, B}, c as d};
        pub(crate) use child::{One, Two};
        const TEXT: &str = r#"use crate::raw;"#;
        fn f<'a>(x: &'a str) -> char { super::g("crate::string::x", ';', '\'', x) }
        #[cfg(test)]
        mod tests { use crate::test; }
        #[cfg(test)]
        mod more;
        fn because_of_use() {}
    "##;
    let (kept, tests) = without_tests(&code(text));
    assert_eq!(tests, BTreeSet::from(["tests".to_owned(), "more".to_owned()]));
    let (imports, body) = take_imports(&kept);
    let found: Vec<_> = imports.iter().map(|i| (i.path.join("::"), i.name.as_str(), i.is_public)).collect();
    let expected = [
        ("crate::a", "a", false),
        ("crate::a::B", "B", false),
        ("crate::c", "d", false),
        ("child::One", "One", true),
        ("child::Two", "Two", true),
    ];
    assert_eq!(found, expected.map(|(path, name, public)| (path.to_owned(), name, public)));
    assert_eq!(paths(&body), [segments("super::g")]);
}
