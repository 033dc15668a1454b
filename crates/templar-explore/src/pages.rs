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

use crate::names::{found, miner_key, validator_key};
use crate::page::{Desk, Found, Missing};
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
