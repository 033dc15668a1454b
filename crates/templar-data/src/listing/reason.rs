//! The reasons why an import leaves something out.

use serde::Serialize;

/// The reason why a file or folder is not imported. Each holds only for what a walk finds: a path that is named
/// on the command line is taken whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The name begins with a dot.
    Hidden,
    /// The name begins with an underscore, as `_SUCCESS`, `_metadata` and `_temporary` do.
    ToolMark,
    /// A download that is not finished, a temporary file, or the backup of an editor.
    Unfinished,
    /// Something that an operating system or a package manager keeps.
    System,
    /// A licence, a readme, a list of requirements: about the data, or about a program.
    About,
    /// Settings or figures that a tool wrote beside the data, such as `dataset_info.json`.
    Settings,
    /// A cache of Hugging Face `datasets`: a result that it made of the data, such as `cache-1b2c3d.arrow`.
    Cache,
    /// The test or validation split of a dataset.
    Split,
    /// Plain text beside tables, which are the data there.
    BesideTables,
    /// Raw tokens beside texts. They may as well be other numbers, such as weights.
    TokensBesideText,
    /// The same file or folder as one that is read already.
    Repeated,
    /// A link that leads back to a folder above it.
    Circle,
    /// A link whose target does not exist.
    DeadLink,
    /// A pipe, a socket or a device.
    Special,
    /// No reader knows the kind.
    UnknownKind,
}

impl Reason {
    /// The reason in a few words, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Hidden => "hidden: the name begins with a dot",
            Self::ToolMark => "a mark of the tool that wrote the folder: the name begins with an underscore",
            Self::Unfinished => "a temporary file, a backup or an unfinished download",
            Self::System => "kept by the operating system or a package manager",
            Self::About => "about the data, not data",
            Self::Settings => "settings or figures that a tool wrote",
            Self::Cache => "a cache of `datasets`, which was made of other files",
            Self::Split => "a test or validation split",
            Self::BesideTables => "plain text beside tables",
            Self::TokensBesideText => "raw tokens, or other numbers, beside texts",
            Self::Repeated => "read already under another name",
            Self::Circle => "a link back to a folder above it",
            Self::DeadLink => "a link that leads nowhere",
            Self::Special => "a pipe, a socket or a device",
            Self::UnknownKind => "of no known kind",
        }
    }
}
