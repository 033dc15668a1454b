//! The name of a dataset, made of the name of a file.

use std::path::Path;

/// The longest name, in bytes.
const MAX_BYTES: usize = 64;

/// Endings that tell how a file is stored, and nothing about what is in it.
const ENDINGS: [&str; 30] = [
    "arrow", "arrows", "bin", "bz2", "csv", "feather", "gz", "gzip", "idx", "ipc", "jl", "json", "jsonl", "ndjson",
    "npy", "parq", "parquet", "pq", "tab", "tar", "tbz2", "tgz", "text", "tsv", "txt", "txz", "tzst", "xz", "zst",
    "zstd",
];

/// A name out of the name of `path`: without the endings that tell how the file is stored, and with a hyphen for all
/// that is no letter, digit, dot or underscore of ASCII. It is `None` where nothing is left.
pub(super) fn name_of(path: &Path) -> Option<String> {
    let mut name = path.file_name()?.to_string_lossy().into_owned();
    while let Some((stem, ending)) = name.rsplit_once('.')
        && ENDINGS.contains(&ending.to_ascii_lowercase().as_str())
    {
        name = stem.to_owned();
    }
    let mut fit = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') {
            fit.push(c);
        } else if !fit.ends_with('-') {
            fit.push('-');
        }
    }
    fit.truncate(MAX_BYTES);
    let fit = fit.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    (!fit.is_empty()).then(|| fit.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_fit() {
        let expected = [
            ("sp ace (v1) ü.jsonl", Some("sp-ace-v1")),
            ("dir/shakespeare.parquet", Some("shakespeare")),
            ("wiki.v2.jsonl.GZ", Some("wiki.v2")),
            ("train-00000-of-00001.parquet", Some("train-00000-of-00001")),
            ("my_data/", Some("my_data")),
            ("données.csv", Some("donn-es")),
            (".hidden", Some("hidden")),
            ("日本.txt", None),
            (".", None),
            ("..", None),
            ("", None),
        ];
        for (path, name) in expected {
            assert_eq!(name_of(Path::new(path)).as_deref(), name, "{path}");
        }
        assert_eq!(name_of(Path::new(&"a".repeat(300))), Some("a".repeat(64)));
    }
}
