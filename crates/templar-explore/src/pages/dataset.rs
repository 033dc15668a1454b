//! The dataset: where its text came from, and the text of each page with those who trained on it.

use maud::{Markup, html};
use serde::Serialize;
use templar_data::{PageError, PageReader, Split};
use templar_manifest::{Dataset, DatasetId, PublicKey, WindowIndex, page_count};
use templar_query::{QueryError, error_line};

use crate::html::{self, Number, Text, table, tiles};
use crate::page::{Desk, Found, Missing};
use crate::place::Part;
use crate::text::{amount, bytes, count, grouped};

/// The most shards that the page lists.
const MAX_SHARDS: usize = 100;

/// The most characters of text on a page.
const MAX_CHARS: usize = 100_000;

#[derive(Debug, Serialize)]
struct DatasetPage {
    id: DatasetId,
    #[serde(flatten)]
    dataset: Dataset,
    /// The tokens that a page predicts in the first context of the run.
    sequence_length: u32,
    training_pages: u64,
    held_out_pages: u64,
}

pub(super) fn page(desk: &Desk<'_>) -> Result<Found, Missing> {
    let context = desk.source.context();
    let length = context.genesis.model.sequence_length;
    let dataset = Dataset::clone(&context.dataset);
    let view = DatasetPage {
        id: context.genesis.dataset,
        sequence_length: length,
        training_pages: page_count(dataset.training_tokens(), length),
        held_out_pages: page_count(dataset.validation_tokens(), length),
        dataset,
    };
    Ok(Found::page(desk.form, "Dataset", &view, DatasetPage::html))
}

impl DatasetPage {
    fn html(&self) -> Markup {
        let Dataset { name, licence, source, documents, training, validation, .. } = &self.dataset;
        let shards =
            training.iter().map(|shard| ("training", shard)).chain(validation.iter().map(|shard| ("held out", shard)));
        let rows = html! { @for (part, shard) in shards.take(MAX_SHARDS) { tr {
            td { (html::object(shard.blob)) } td { (part) } td.num { (grouped(shard.tokens)) }
            td.num { (bytes(shard.tokens.saturating_mul(self.dataset.token_bytes.into()))) }
        } } };
        let tokens = |number: u64| format!("{} tokens", amount(number));
        html! {
            h1 { "Dataset " (name) }
            p.lead {
                (count(*documents, "document")) ", cut into pages of " (self.sequence_length)
                " tokens. The seed of each window draws the pages of every miner, so nobody chooses what it trains on."
            }
            (tiles(&[
                ("To train on", tokens(self.dataset.training_tokens()), count(self.training_pages, "page")),
                ("Held out", tokens(self.dataset.validation_tokens()), count(self.held_out_pages, "page")),
                ("Vocabulary", format!("{} tokens", grouped(self.dataset.vocab_size.into())), String::new()),
            ]))
            dl.facts {
                dt { "manifest" } dd { (html::object(self.id)) }
                dt { "licence" } dd { (licence) }
                dt { "source" } dd { (source) }
                dt { "tokenizer" } dd { (html::object(self.dataset.tokenizer)) }
            }
            h2 { "Read it" }
            p.more {
                @if self.training_pages > 0 { a href="/dataset/training/0" { "The first page to train on" } }
                @if self.held_out_pages > 0 { a href="/dataset/held-out/0" { "The first page that is held out" } }
            }
            h2 { "Shards" }
            (table("Shards", &[Text("shard"), Text("part"), Number("tokens"), Number("size")], rows))
        }
    }
}

/// The text of a page.
#[derive(Debug, Serialize)]
struct TextPage {
    part: &'static str,
    page: u64,
    /// The number of pages of this part.
    pages: u64,
    tokens: Vec<u32>,
    text: String,
    /// The windows in which a miner trained on it, with the miner.
    read_by: Vec<(WindowIndex, PublicKey)>,
    /// The first window of which this is known.
    known_since: Option<WindowIndex>,
}

pub(super) fn text(desk: &Desk<'_>, part: Part, page: u64) -> Result<Found, Missing> {
    let context = desk.source.context();
    let split = match part {
        Part::Training => Split::Training,
        Part::HeldOut => Split::Validation,
    };
    let access = desk.source.access()?;
    let length = context.genesis.model.sequence_length;
    let reader = PageReader::new(access.blobs(), &context.dataset, split, length).map_err(|error| unread(&error))?;
    let tokens = reader.read(page).map_err(|error| unread(&error))?;
    let tokenizer = context.tokenizer(access.blobs()).map_err(QueryError::from)?;
    let text = tokenizer.decode(&tokens).map_err(|error| Missing::Failed(error_line(&error)))?;
    let folded = desk.source.folded();
    let (read_by, known_since) = match part {
        // The pages of a longer context are others, so a run that changes it has no such list.
        Part::Training if context.genesis.contexts().count() == 1 => {
            (folded.facts.readers_of(page), folded.facts.pages_since())
        }
        Part::Training | Part::HeldOut => (Vec::new(), None),
    };
    drop(folded);
    let (part, pages) = (part.name(), reader.page_count());
    let view = TextPage { part, page, pages, tokens, text, read_by, known_since };
    Ok(Found::page(desk.form, format!("Page {page} of the {part} text"), &view, TextPage::html))
}

/// A page that does not exist is not found; one whose shard is not here cannot be read now.
fn unread(error: &PageError) -> Missing {
    match error {
        PageError::OutOfRange { page, count } => Missing::NotFound {
            title: format!("There is no page {page}"),
            why: format!("This part of the dataset has {count} pages, which are counted from 0."),
            instead: vec![("The dataset".to_owned(), "/dataset".to_owned())],
        },
        error => Missing::Failed(error_line(error)),
    }
}

impl TextPage {
    fn html(&self) -> Markup {
        let shown: String = self.text.chars().take(MAX_CHARS).collect();
        html! {
            h1 { "Page " (self.page) " of the " (self.part) " text" }
            p.more {
                @if let Some(page) = self.page.checked_sub(1) {
                    a href={ "/dataset/" (self.part) "/" (page) } { "← Page " (page) }
                }
                @if self.page + 1 < self.pages {
                    a href={ "/dataset/" (self.part) "/" (self.page + 1) } { "Page " (self.page + 1) " →" }
                }
                a href="/dataset" { "The dataset" }
            }
            pre tabindex="0" dir="auto" { (shown) }
            h2 { "Who trained on it" }
            @if self.part == Part::HeldOut.name() {
                p { "Nobody: held-out text only measures the loss of each new model." }
            } @else if self.read_by.is_empty() {
                p {
                    "No miner was given this page so far"
                    @if let Some(since) = self.known_since.filter(|since| since.0 > 0) {
                        ", counted from window " (since)
                    }
                    "."
                }
            } @else {
                ul { @for (window, miner) in &self.read_by {
                    li { "Miner " (html::miner(miner)) " was given it in " (html::window(*window)) "." }
                } }
            }
            details {
                summary { "Its " (count(self.tokens.len() as u64, "token")) }
                p.mono { @for token in self.tokens.iter().take(MAX_CHARS / 8) { (token) " " } }
            }
        }
    }
}
