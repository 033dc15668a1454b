//! The page of any object: its decoded fields, who names it, and how to check it.

use std::collections::BTreeSet;

use maud::{Markup, html};
use serde::Serialize;
use serde_json::Value;
use templar_home::access::Access;
use templar_manifest::{Hash, Kind, PublicKey};
use templar_query::error_line;
use templar_query::index::{HomeIndex, KnownObject};
use templar_query::manifest_view::{ManifestLink, ObjectKind, lines};
use templar_query::object::Backlink;
use templar_query::object::contents::Contents;
use templar_query::object::summary::ObjectSummary;

use crate::html::{self, Text, Tone, command, table, tag};
use crate::names::{another, found};
use crate::page::{Desk, Found, Missing};
use crate::text::{bytes, count};

/// The most fields, and the most links, that the page lists. Its JSON twin has all of them.
const MAX_ROWS: usize = 400;

/// The longest delta or trace that is decoded for a page, in bytes.
const MAX_DECODED_BYTES: u64 = 64 << 20;

/// One object.
#[derive(Debug, Serialize)]
struct ObjectPage {
    id: Hash,
    kind: ObjectKind,
    bytes: Option<u64>,
    here: bool,
    signers: Vec<PublicKey>,
    summary: ObjectSummary,
    contents: Contents,
    /// Why the contents are not shown although the bytes are here.
    unread: Option<String>,
    links: Vec<ManifestLink>,
    named_by: Vec<Backlink>,
    /// The number of closed windows, which have pages.
    #[serde(skip)]
    closed: u64,
    /// The keys that have pages of their own.
    #[serde(skip)]
    miners: BTreeSet<PublicKey>,
    #[serde(skip)]
    validators: BTreeSet<PublicKey>,
}

pub(super) fn page(desk: &Desk<'_>, text: &str) -> Result<Found, Missing> {
    let access = desk.source.access()?;
    let index = desk.source.index(&access)?;
    let whole = text.parse::<Hash>().ok().filter(|hash| hash.to_string() == text);
    let Some(id) = whole else {
        return Err(match found(desk, text) {
            elsewhere @ Missing::Elsewhere(_) => elsewhere,
            Missing::NotFound { instead, .. } if !instead.is_empty() => found(desk, text),
            _ => another(desk, text, "object"),
        });
    };
    let stored = access.blobs().contains(&id);
    let unnamed = KnownObject::new(ObjectKind::Blob);
    let object = match index.object(&id) {
        Some(object) => object,
        None if stored => &unnamed,
        None => return Err(another(desk, text, "object")),
    };
    let view = ObjectPage::of(desk, &access, &index, id, object, stored);
    let title = format!("{} {}", view.kind.name(), id.short());
    Ok(Found::page(desk.form, title, &view, ObjectPage::html))
}

impl ObjectPage {
    fn of(desk: &Desk<'_>, access: &Access, index: &HomeIndex, id: Hash, object: &KnownObject, stored: bool) -> Self {
        let size = index.stored.get(&id).copied();
        let payload = object.payload.as_ref();
        let read = match size.filter(|size| *size > MAX_DECODED_BYTES) {
            Some(size) => Err(format!("its {} are too many for a page", bytes(size))),
            None => Contents::read(access, index, id, object).map_err(|error| error_line(&error)),
        };
        let (contents, links, unread) = match read {
            Ok((contents, links)) => (contents, links, None),
            Err(why) => (Contents::None, Vec::new(), Some(why)),
        };
        let summary = match (object.kind, payload) {
            (ObjectKind::Manifest(kind), Some(payload)) => ObjectSummary::of(kind, payload),
            _ => ObjectSummary::None,
        };
        let folded = desk.source.folded();
        let backlink = |(by, field): &(Hash, String)| Backlink { id: *by, field: field.clone(), kind: index.kind(by) };
        Self {
            id,
            kind: object.kind,
            bytes: size.or(payload.map(|payload| payload.len() as u64)),
            here: stored || payload.is_some(),
            signers: object.signers.clone(),
            summary,
            contents,
            unread,
            links,
            named_by: object.named_by.iter().map(backlink).collect(),
            closed: folded.closed.len() as u64,
            miners: folded
                .facts
                .miners
                .keys()
                .copied()
                .chain(folded.node.state().members().iter().map(|m| m.owner))
                .collect(),
            validators: desk.source.context().genesis.validators.iter().map(|spec| spec.key).collect(),
        }
    }

    fn html(&self) -> Markup {
        let size = self.bytes.map_or_else(|| "of unknown size".to_owned(), bytes);
        html! {
            h1 { (heading(self.kind)) " " code { (self.id) } }
            p.lead { (what_it_is(self.kind)) }
            dl.facts {
                dt { "size" } dd { (size) }
                dt { "here" }
                dd {
                    @if self.here { (tag(Tone::Good, "its bytes are in this home")) }
                    @else { (tag(Tone::Quiet, "its bytes are not in this home")) }
                }
                @if !self.signers.is_empty() {
                    dt { "signed by" }
                    dd { (html::joined(self.signers.iter().map(|signer| self.key(signer)))) }
                }
                @if let Some(window) = self.window() {
                    dt { "window" } dd { a href={ "/window/" (window) } { (window) } }
                }
            }
            @if let Some(why) = &self.unread { p { (tag(Tone::Wait, "not decoded")) " " (why) } }
            (self.fields())
            (self.named_by())
            (self.check())
        }
    }

    /// The link of a key that may be a miner's or a validator's.
    fn key(&self, key: &PublicKey) -> Markup {
        match (self.validators.contains(key), self.miners.contains(key)) {
            (true, _) => html::validator(key),
            (false, true) => html::miner(key),
            (false, false) => html! { code { (key.short()) } },
        }
    }

    /// The closed window that made the object. A checkpoint names the window after it.
    fn window(&self) -> Option<u64> {
        let window = match (&self.contents, self.kind) {
            (Contents::Manifest(body), ObjectKind::Manifest(Kind::Checkpoint)) => {
                body.get("window")?.as_u64()?.checked_sub(1)?
            }
            (Contents::Manifest(body), _) => body.get("window")?.as_u64()?,
            (Contents::Delta(delta), _) => delta.window,
            (Contents::Trace(trace), _) => trace.window.0,
            (Contents::None, _) => return None,
        };
        (window < self.closed).then_some(window)
    }

    fn fields(&self) -> Markup {
        // Every kind of contents is a value whose fields serialise.
        let value = serde_json::to_value(&self.contents).unwrap_or(Value::Null);
        if value.is_null() {
            return html! {};
        }
        let all = lines(&value);
        let rows = html! { @for line in all.iter().take(MAX_ROWS) {
            @let (field, value) = line.split_once(" = ").unwrap_or((line, ""));
            tr { td { (field) } td { (self.linked(field, value)) } }
        } };
        html! {
            h2 { "Fields" }
            div.fields { (table("Decoded fields", &[Text("field"), Text("value")], rows)) }
            @if all.len() > MAX_ROWS {
                p.note { "The first " (MAX_ROWS) " of " (count(all.len() as u64, "field")) ". The JSON page has all." }
            }
        }
    }

    /// A value with a link for every id in it.
    fn linked(&self, field: &str, value: &str) -> Markup {
        let is_link = |to: &Hash| self.links.iter().any(|link| link.to == *to);
        let pieces = value.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
        html! { @for piece in pieces {
            @let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            @let rest = &piece[word.len()..];
            @match word.parse::<Hash>().ok() {
                Some(hash) if is_link(&hash) => { (html::object(hash)) (rest) }
                Some(hash) => { (self.named(&PublicKey::from_bytes(*hash.as_bytes()), field)) (rest) }
                None => (piece),
            }
        } }
    }

    /// An id that is no object: a key, or a number such as a seed.
    fn named(&self, key: &PublicKey, _field: &str) -> Markup {
        if self.validators.contains(key) || self.miners.contains(key) {
            self.key(key)
        } else {
            html! { code.whole { (key) } }
        }
    }

    fn named_by(&self) -> Markup {
        let rows = html! { @for link in self.named_by.iter().take(MAX_ROWS) { tr {
            td { (link.kind.map_or("object", ObjectKind::name)) } td { (html::object(link.id)) } td { (link.field) }
        } } };
        html! {
            h2 { "Who names it" }
            @if self.named_by.is_empty() { p { "No manifest that is here." } } @else {
                (table("Who names it", &[Text("kind"), Text("object"), Text("as")], rows))
            }
        }
    }

    fn check(&self) -> Markup {
        let id = self.id;
        let again = match (self.kind, self.window()) {
            (ObjectKind::Manifest(Kind::Genesis | Kind::Dataset), _) | (_, None) => "templar audit".to_owned(),
            (_, Some(window)) => format!("templar audit --window {window}"),
        };
        html! {
            h2 { "Check it" }
            p { "Its name is the BLAKE3 hash of its bytes. A file of them has the same name anywhere:" }
            (command(&format!("b3sum FILE    # prints {id}")))
            p { "These commands show it, and compute again what it claims:" }
            (command(&format!("templar show {id}\n{again}")))
        }
    }
}

/// The name of a kind as a heading.
fn heading(kind: ObjectKind) -> String {
    let word = match kind {
        ObjectKind::Manifest(Kind::Window) => "record header",
        ObjectKind::Manifest(Kind::Body) => "record",
        kind => kind.name(),
    };
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What an object of a kind is, in a sentence.
fn what_it_is(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Manifest(Kind::Genesis) => {
            "The configuration of a run: every rule and number that its members agree on."
        }
        ObjectKind::Manifest(Kind::Dataset) => "A dataset: the shards of its tokens, and where the text came from.",
        ObjectKind::Manifest(Kind::Contribution) => {
            "A miner's signed commitment to one update, made before anybody could read the update."
        }
        ObjectKind::Manifest(Kind::Registration) => "A request for a slot, with its payment.",
        ObjectKind::Manifest(Kind::Inbox) => "What one validator had received when it stopped waiting.",
        ObjectKind::Manifest(Kind::Cut) => "The agreed list of the updates that came in time.",
        ObjectKind::Manifest(Kind::Reveals) => {
            "The agreed list of the validators' random values, of which the seed is made."
        }
        ObjectKind::Manifest(Kind::Score) => {
            "What one validator found when it repeated and measured the updates of a window."
        }
        ObjectKind::Manifest(Kind::Window) => "The header of the record that closes a window. Validators sign it.",
        ObjectKind::Manifest(Kind::Body) => "The body of a record: everything that a window decided.",
        ObjectKind::Manifest(Kind::Vote) => "A validator's vote on a cut or a record.",
        ObjectKind::Manifest(Kind::Checkpoint) => "A model: the hash of each of its tensors.",
        ObjectKind::Manifest(Kind::State) => {
            "A miner's training state: the moments of its optimiser, and its error feedback."
        }
        ObjectKind::Manifest(Kind::Audit) => "An auditor's findings on a window.",
        ObjectKind::Tokenizer => "The tokenizer of a dataset, a tokenizer.json.",
        ObjectKind::ChatTemplate => "The text that joins the turns of a conversation.",
        ObjectKind::Shard => "A shard of a dataset: its tokens.",
        ObjectKind::Tensor => "A tensor: its values as little-endian 32-bit floats.",
        ObjectKind::Delta => "The compressed update of a miner.",
        ObjectKind::Trace => "A miner's trace: a hash of every tensor after each step.",
        ObjectKind::Blob => "Bytes that no manifest here names.",
    }
}
