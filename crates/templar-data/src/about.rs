//! The names of files that are about the data, such as a licence, and not a part of it.

/// A file of plain text is about the data where its first or its last word is one of these.
const ABOUT_WORDS: [&str; 21] = [
    "authors",
    "changelog",
    "checksums",
    "citation",
    "cmakelists",
    "constraints",
    "contributing",
    "contributors",
    "copying",
    "copyright",
    "eula",
    "licence",
    "licences",
    "license",
    "licenses",
    "md5sums",
    "notices",
    "readme",
    "requirements",
    "sha256sums",
    "unlicense",
];

/// A file of plain text is about the data where its name is one of these: each alone could be the title of a text.
const ABOUT_NAMES: [&str; 29] = [
    "acknowledgements",
    "ads",
    "changes",
    "code_of_conduct",
    "credits",
    "data_card",
    "datasheet",
    "dependency_links",
    "entry_points",
    "humans",
    "install",
    "legal",
    "llms",
    "maintainers",
    "manifest",
    "md5",
    "md5sum",
    "notice",
    "patents",
    "robots",
    "runtime",
    "security",
    "sha1sum",
    "sha256",
    "sha256sum",
    "terms",
    "top_level",
    "version",
    "zip-safe",
];

/// Whether a name in lower case is one of a file about the data.
pub(crate) fn is_about(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    let mut words = stem.split(['-', '_', ' ']);
    let first = words.next().unwrap_or_default();
    let last = words.next_back().unwrap_or(first);
    ABOUT_NAMES.contains(&stem) || [first, last].iter().any(|word| ABOUT_WORDS.contains(word))
}
