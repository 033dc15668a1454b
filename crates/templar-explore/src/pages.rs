//! The pages of the site, and what stands around each.

mod audit;
mod dataset;
mod miner;
mod object;
mod pay;
mod run;
mod validator;
mod window;
mod windows;

use maud::{DOCTYPE, Markup, html};
use templar_manifest::{Hash, PublicKey};
use templar_query::reference::Reference;

use crate::page::{Desk, Found, Missing, one_of};
use crate::place::Place;

/// Finds the page of a place.
pub(crate) fn find(desk: &Desk<'_>, place: &Place) -> Result<Found, Missing> {
    match place {
        Place::Run => run::page(desk),
        Place::Windows(before) => windows::page(desk, *before),
        Place::Window(window) => window::page(desk, *window),
        Place::Miners => miner::list(desk),
        Place::Miner(key) => miner::page(desk, &miner_key(desk, key, |key| format!("/miner/{key}"))?),
        Place::Pay(key, window) => {
            let key = miner_key(desk, key, |key| format!("/miner/{key}/pay/{window}"))?;
            pay::page(desk, &key, *window)
        }
        Place::Validator(key) => validator::page(desk, &validator_key(desk, key)?),
        Place::Object(hash) => object::page(desk, hash),
        Place::Dataset => dataset::page(desk),
        Place::Page(part, page) => dataset::text(desk, *part, *page),
        Place::Audit => audit::page(desk),
        Place::Find(text) => Err(found(desk, text)),
    }
}

/// The miner that a text names, by its whole key. Another spelling leads to that.
fn miner_key(desk: &Desk<'_>, text: &str, path: impl Fn(&Hash) -> String) -> Result<PublicKey, Missing> {
    key(desk, text, "miner", miners(desk), path)
}

/// The validator that a text names, by its whole key. Another spelling leads to that.
fn validator_key(desk: &Desk<'_>, text: &str) -> Result<PublicKey, Missing> {
    key(desk, text, "validator", validators(desk), |key| format!("/validator/{key}"))
}

fn key(
    desk: &Desk<'_>,
    text: &str,
    role: &str,
    known: Vec<Hash>,
    path: impl Fn(&Hash) -> String,
) -> Result<PublicKey, Missing> {
    match one_of(known.into_iter(), text, &path)? {
        Some(whole) if whole.to_string() == text => Ok(PublicKey::from_bytes(*whole.as_bytes())),
        Some(whole) => Err(Missing::Elsewhere(path(&whole))),
        None => Err(another(desk, text, role)),
    }
}

/// The keys of all miners, now and before, as hashes.
fn miners(desk: &Desk<'_>) -> Vec<Hash> {
    let folded = desk.source.folded();
    let members = folded.node.state().members().iter().map(|member| member.owner);
    members.chain(folded.facts.miners.keys().copied()).map(|key| Hash::from_bytes(*key.as_bytes())).collect()
}

/// The keys of all validators, as hashes.
fn validators(desk: &Desk<'_>) -> Vec<Hash> {
    let validators = &desk.source.context().genesis.validators;
    validators.iter().map(|validator| Hash::from_bytes(*validator.key.as_bytes())).collect()
}

/// Says that a text names nothing of the kind that was asked for, and what it names instead.
fn another(desk: &Desk<'_>, text: &str, asked: &str) -> Missing {
    let title = format!("There is no such {asked}");
    match found(desk, text) {
        Missing::Elsewhere(path) => Missing::NotFound {
            title,
            why: format!("{text} is no {asked} of this run, but something else here has this name."),
            instead: vec![(path.clone(), path)],
        },
        _ => Missing::page(title, format!("No {asked} of this run has an id that is or begins with {text:?}.")),
    }
}

/// What a person means who typed `text`: the address of it, or the reason why there is none.
fn found(desk: &Desk<'_>, text: &str) -> Missing {
    let text = text.trim().to_ascii_lowercase();
    if let Ok(Reference::Window(window)) = text.parse() {
        return Missing::Elsewhere(format!("/window/{window}"));
    }
    let by_key = |known: Vec<Hash>, role: &str| {
        let path = |key: &Hash| format!("/{role}/{key}");
        one_of(known.into_iter(), &text, path).map(|found| found.map(|key| path(&key)))
    };
    let path = |hash: &Hash| format!("/object/{hash}");
    let objects = || {
        let index = desk.source.index(&*desk.source.access()?)?;
        Ok(one_of(index.hashes().into_iter(), &text, path)?.map(|hash| path(&hash)))
    };
    let found = by_key(miners(desk), "miner").and_then(|miner| match miner {
        None => by_key(validators(desk), "validator"),
        found => Ok(found),
    });
    match found.and_then(|found| if found.is_some() { Ok(found) } else { objects() }) {
        Ok(Some(path)) => Missing::Elsewhere(path),
        Ok(None) => Missing::page(
            "Nothing here has this name",
            format!("{text:?} is no id of this run, nor four or more digits of one, nor a window such as w3."),
        ),
        Err(missing) => missing,
    }
}

/// The whole page around its main part.
pub(crate) fn frame(desk: &Desk<'_>, title: &str, place: Option<&Place>, news: &str, main: Markup) -> Markup {
    let context = desk.source.context();
    let (name, run) = (&context.genesis.name, context.run);
    let twin = place.filter(|place| !matches!(place, Place::Find(_))).map(|place| format!("{}.json", place.path()));
    let areas =
        [("/run", "Run"), ("/windows", "Windows"), ("/miners", "Miners"), ("/dataset", "Dataset"), ("/audit", "Audit")];
    let here = place.map(area).unwrap_or_default();
    // What has happened does not change, so only pages about the present are asked for again.
    let is_live = matches!(
        place,
        Some(Place::Run | Place::Windows(None) | Place::Miners | Place::Miner(_) | Place::Validator(_) | Place::Audit)
    );
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · " (name) }
                link rel="stylesheet" href="/style.css";
                link rel="icon" href="/icon.svg" type="image/svg+xml";
                @if matches!(place, Some(Place::Audit)) { noscript { meta http-equiv="refresh" content="3"; } }
                script src="/live.js" defer {}
            }
            body {
                a.skip href="#main" { "Skip to the page" }
                header { div {
                    a.name href="/run" title=(run) { (name) }
                    nav aria-label="Parts of the site" { ul {
                        @for (path, words) in areas {
                            li { a href=(path) aria-current=[(here == path).then_some("page")] { (words) } }
                        }
                    } }
                    form action="/find" method="get" role="search" {
                        input type="search" name="q" maxlength="80" aria-label="An id, or a window such as w3"
                            placeholder="id, or w3" autocomplete="off" spellcheck="false";
                        button { "Find" }
                    }
                } }
                main id="main" data-live=[is_live.then_some(news)] { (main) }
                footer {
                    span { "Everything here is read from the files of this machine, and can be computed again." }
                    @if let Some(twin) = twin { a href=(twin) { "This page as JSON" } }
                    span id="live" {}
                }
            }
        }
    }
}

/// The part of the site that a page belongs to, as the path of its first page.
fn area(place: &Place) -> &'static str {
    match place {
        Place::Run | Place::Validator(_) => "/run",
        Place::Windows(_) | Place::Window(_) => "/windows",
        Place::Miners | Place::Miner(_) | Place::Pay(..) => "/miners",
        Place::Dataset | Place::Page(..) => "/dataset",
        Place::Audit => "/audit",
        Place::Object(_) | Place::Find(_) => "",
    }
}
