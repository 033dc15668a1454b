//! The meaning of a file's or folder's name: hidden, unfinished, about the data, or written by a tool.
//!
//! The rules follow what readers of such folders agree on. Spark, pyarrow and Hugging Face `datasets` pass by names
//! that begin with a dot. Spark and pyarrow also pass by names that begin with an underscore, unless they name a
//! partition (`_year=2024`). Upper and lower case are the same.

use super::reason::Reason;
use crate::about::is_about;

/// How the names of files and folders end that something is still writing, or has put aside.
const UNFINISHED: [&str; 26] = [
    "~",
    ".!qb",
    ".!ut",
    "._copying_",
    ".aria2",
    ".backup",
    ".bak",
    ".crdownload",
    ".download",
    ".filepart",
    ".in-progress",
    ".incomplete",
    ".inprogress",
    ".lock",
    ".opdownload",
    ".orig",
    ".part",
    ".partial",
    ".rej",
    ".swo",
    ".swp",
    ".swx",
    ".temp",
    ".tmp",
    ".unfinished",
    ".wkdownload",
];

/// Names of what an operating system or a package manager keeps. They are whole names.
const SYSTEM: [&str; 12] = [
    "$recycle.bin",
    "@eadir",
    "__macosx",
    "__pycache__",
    "desktop.ini",
    "dist-packages",
    "ehthumbs.db",
    "icon\r",
    "lost+found",
    "node_modules",
    "system volume information",
    "thumbs.db",
];

/// How the names of folders end in which package managers describe packages.
const PACKAGES: [&str; 4] = ["site-packages", ".dist-info", ".egg-info", ".egg"];

/// Names of files that tools write beside models, datasets and programs.
const SETTINGS: [&str; 35] = [
    "adapter_config.json",
    "added_tokens.json",
    "all_results.json",
    "chat_template.json",
    "codemeta.json",
    "composer.json",
    "config.json",
    "croissant.json",
    "datapackage.json",
    "dataset_dict.json",
    "dataset_info.json",
    "dataset_infos.json",
    "generation_config.json",
    "index.json",
    "manifest.json",
    "merges.txt",
    "metadata.json",
    "modules.json",
    "package-lock.json",
    "package.json",
    "preprocessor_config.json",
    "processor_config.json",
    "quantize_config.json",
    "schema.json",
    "special_tokens_map.json",
    "state.json",
    "statistics.json",
    "stats.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "trainer_state.json",
    "training_args.bin",
    "tsconfig.json",
    "vocab.json",
    "vocab.txt",
];

/// How the names of such files end.
const SETTINGS_ENDS: [&str; 5] = [".index.json", ".metadata.json", ".schema.json", "_config.json", "_results.json"];

/// Why a file or folder of this name is left out, with any content. `is_prose` says that the name is that of plain
/// text, or of no known kind: only such a file is about the data, since `licenses.jsonl` may well be data.
pub(super) fn reason(name: &str, is_folder: bool, is_prose: bool) -> Option<Reason> {
    let name = name.to_lowercase();
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    let is_edited = name.starts_with("~$") || (name.len() > 1 && name.starts_with('#') && name.ends_with('#'));
    if SYSTEM.contains(&name.as_str()) || is_folder && ends(&PACKAGES) {
        Some(Reason::System)
    } else if is_edited || ends(&UNFINISHED) {
        Some(Reason::Unfinished)
    } else if name.starts_with('.') {
        Some(Reason::Hidden)
    } else if name.starts_with('_') && !name.contains('=') {
        Some(Reason::ToolMark)
    } else if is_folder {
        None
    } else if SETTINGS.contains(&name.as_str()) || ends(&SETTINGS_ENDS) || name.starts_with("pytorch_model") {
        Some(Reason::Settings)
    } else if name.starts_with("cache-") && name.ends_with(".arrow") {
        Some(Reason::Cache)
    } else {
        (is_prose && is_about(&name)).then_some(Reason::About)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_file(name: &str) -> Option<Reason> {
        reason(name, false, name.to_lowercase().ends_with(".txt") || !name.contains('.') || name.ends_with(".md"))
    }

    #[test]
    fn names_that_people_pass_by() {
        let expected = [
            (
                Reason::Hidden,
                &[".a.parquet", "._a.parquet", ".DS_Store", ".part-0.snappy.parquet.crc", ".gitattributes"][..],
            ),
            (Reason::ToolMark, &["_SUCCESS", "_metadata", "_common_metadata", "_started_77", "_hidden.jsonl"]),
            (
                Reason::Unfinished,
                &["a.txt~", ".a.txt.swp", "#a.txt#", "~$a.txt", "a.jsonl.PART", "a.parquet.crdownload"],
            ),
            (
                Reason::Unfinished,
                &["a.incomplete", "a.jsonl.tmp", "a.jsonl.bak", ".a.txt.incomplete", "a.gz._COPYING_"],
            ),
            (Reason::System, &["Thumbs.db", "desktop.ini", "__MACOSX"]),
            (
                Reason::About,
                &["LICENSE.txt", "licence", "LICENSE-APACHE.txt", "LICENSE.MIT.txt", "README.md", "README"],
            ),
            (
                Reason::About,
                &["requirements.txt", "requirements-dev.txt", "dev_requirements.txt", "COPYING", "NOTICE.txt"],
            ),
            (
                Reason::About,
                &["THIRD_PARTY_NOTICES.txt", "CMakeLists.txt", "robots.txt", "README.zh-CN.txt", "AUTHORS"],
            ),
            (Reason::Settings, &["dataset_info.json", "state.json", "tokenizer.json", "vocab.txt", "v1.metadata.json"]),
            (
                Reason::Settings,
                &["model.safetensors.index.json", "pytorch_model-00001-of-00002.bin", "eval_results.json"],
            ),
            (Reason::Cache, &["cache-1b2c3d4e5f.arrow", "cache-1b2c_00000_of_00004.arrow"]),
        ];
        for (reason, names) in expected {
            for name in names {
                assert_eq!(of_file(name), Some(reason), "{name}");
            }
        }
        for folder in [".git", ".cache", "_temporary", "__MACOSX", "node_modules", "x.egg-info", "a.tmp", "_delta_log"]
        {
            assert!(reason(folder, true, false).is_some(), "{folder}");
        }
    }

    #[test]
    fn names_of_data_are_taken() {
        let names = [
            "a.parquet",
            "part-00000-c000.snappy.parquet",
            "licenses.jsonl",
            "hamlet.txt",
            "notice-of-death.txt",
            "history.txt",
            "part.0.parquet",
            "0",
            "a_b.txt",
            "the-changes.txt",
            "my data.csv",
            "#1.txt",
            "a.part.txt",
        ];
        for name in names {
            assert_eq!(of_file(name), None, "{name}");
        }
        for folder in ["data", "_year=2024", "part=1", "licenses", "readme", "year=__HIVE_DEFAULT_PARTITION__"] {
            assert_eq!(reason(folder, true, false), None, "{folder}");
        }
    }
}
