//! The explorer: a run as pages in a browser.
//!
//! The way of a request is short. [`place`] reads the path; `answer` finds the page and gives it as HTML or as JSON;
//! [`server`] carries both over HTTP. Everything that a page says comes from a [`Source`], which follows the journal of
//! a home as the reading commands do, also while a node runs there. A page is a value that serialises to JSON, with one
//! function that writes it as HTML, so a page and its JSON twin cannot disagree.
//!
//! * Pages need no script. The one script that there is asks for a page again when the run has gone on.
//! * Nothing comes from another address, and nothing runs that is not a file of this server.
//! * Texts of strangers are text: markup is escaped by the templates, and [`text::visible`] shows characters that would
//!   hide or turn around others.
//! * One thing changes when somebody asks for it: an audit begins. That needs a loopback address and a token.
//!
//! # Example
//!
//! ```
//! use templar_explore::place::{Form, Place};
//!
//! let (place, form) = Place::parse("/window/3.json", None).expect("a path of this site");
//! assert_eq!((place.path(), form), ("/window/3".to_owned(), Form::Json));
//! ```

mod answer;
mod assets;
mod audit;
mod facts;
mod html;
mod names;
mod page;
mod pages;
pub mod place;
pub mod plot;
pub mod plots;
pub mod server;
mod source;
pub mod text;

pub use source::Source;
