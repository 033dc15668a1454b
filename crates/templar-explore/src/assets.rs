//! The files that the site is made of besides its pages. They are part of the program.

/// The style of all pages.
pub(crate) const STYLE: &str = include_str!("assets/style.css");

/// The script that asks for a page again when the run has gone on. Pages work without it.
pub(crate) const SCRIPT: &str = include_str!("assets/live.js");

/// The icon in the tab of a browser.
pub(crate) const ICON: &str = include_str!("assets/icon.svg");
