//! Parts of pages: links, tables, tags.

use std::fmt::Display;

use maud::{Markup, html};
use templar_manifest::{PublicKey, WindowIndex};

/// The number of digits of an id that people see.
const SHORT: usize = 10;

/// A link to an object by its id.
pub(crate) fn object(id: impl Display) -> Markup {
    let id = id.to_string();
    html! { a.hash href={ "/object/" (id) } title=(id) { (id.get(..SHORT).unwrap_or(&id)) } }
}

/// A link to a miner.
pub(crate) fn miner(key: &PublicKey) -> Markup {
    html! { a.hash href={ "/miner/" (key) } title=(key) { (key.short()) } }
}

/// A link to a validator.
pub(crate) fn validator(key: &PublicKey) -> Markup {
    html! { a.hash href={ "/validator/" (key) } title=(key) { (key.short()) } }
}

/// A link to a window.
pub(crate) fn window(window: WindowIndex) -> Markup {
    html! { a href={ "/window/" (window) } { "window " (window) } }
}

/// A table that scrolls on its own where the screen is narrow. `name` says what it holds.
pub(crate) fn table(name: &str, heads: &[Head], rows: Markup) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(name) {
            table {
                thead { tr { @for head in heads {
                    @match head {
                        Head::Text(text) => { th scope="col" { (text) } }
                        Head::Number(text) => { th.num scope="col" { (text) } }
                    }
                } } }
                tbody { (rows) }
            }
        }
    }
}

/// The head of a column.
pub(crate) enum Head {
    /// Of texts.
    Text(&'static str),
    /// Of numbers, which stand at the right.
    Number(&'static str),
}

pub(crate) use Head::{Number, Text};

/// Figures that stand out: a name, a value, and a smaller remark for each.
pub(crate) fn tiles(tiles: &[(&str, String, String)]) -> Markup {
    html! {
        dl.tiles { @for (name, value, remark) in tiles {
            div { dt { (name) } dd { (value) @if !remark.is_empty() { small { (remark) } } } }
        } }
    }
}

/// A verdict in a word, green or red or grey.
pub(crate) fn tag(tone: Tone, word: &str) -> Markup {
    html! { span.tag.(tone.class()) { (word) } }
}

/// How a verdict feels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
    Wait,
    Quiet,
}

impl Tone {
    /// The class in the style sheet.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Wait => "wait",
            Self::Quiet => "quiet",
        }
    }
}

/// Parts with commas between them.
pub(crate) fn joined(parts: impl Iterator<Item = Markup>) -> Markup {
    html! { @for (place, part) in parts.enumerate() { @if place > 0 { ", " } (part) } }
}

/// A command for a terminal.
pub(crate) fn command(text: &str) -> Markup {
    html! { pre.command tabindex="0" { (text) } }
}
