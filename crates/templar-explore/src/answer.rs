//! Finds the page that an address means, and gives it as HTML or as JSON. No socket is involved.

use crate::page::{Body, Desk, Found, Missing};
use crate::pages;
use crate::place::{Form, Place};
use crate::text::{visible, visible_json};

/// The answer to a request for a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status of HTTP.
    pub(crate) status: u16,
    /// The address to go to instead, of an answer that is no page.
    pub(crate) location: Option<String>,
    /// The form of the body.
    pub(crate) form: Form,
    /// The page, or the JSON text.
    pub(crate) body: String,
}

/// Gives the page of a place, or the page for a path that the site does not have.
pub(crate) fn answer(desk: &Desk<'_>, place: Option<&Place>) -> Answer {
    // Before the page is made: what happens meanwhile must be news to it.
    let news = desk.audit.news(desk.source.follow().unwrap_or_default());
    let found = match place {
        Some(place) => desk.source.follow().map_err(Missing::from).and_then(|_| pages::find(desk, place)),
        None => Err(Missing::page("There is no such page", "The site has no page at this address.")),
    };
    match found {
        Ok(Found { title, body: Body::Html(main) }) => {
            html(200, pages::frame(desk, &title, place, &news, main).into_string())
        }
        Ok(Found { body: Body::Json(text), .. }) => json(200, text),
        Err(missing) => refuse(desk, missing, &news),
    }
}

fn refuse(desk: &Desk<'_>, missing: Missing, news: &str) -> Answer {
    let form = desk.form;
    if let Missing::Elsewhere(path) = missing {
        let path = if form == Form::Json { format!("{path}.json") } else { path };
        return Answer { status: 303, location: Some(path), form, body: String::new() };
    }
    let status = missing.status();
    match form {
        Form::Html => {
            let (title, main) = missing.html();
            html(status, pages::frame(desk, &title, None, news, main).into_string())
        }
        Form::Json => json(status, missing.json().to_string()),
    }
}

fn html(status: u16, page: String) -> Answer {
    Answer { status, location: None, form: Form::Html, body: visible(page) }
}

fn json(status: u16, text: String) -> Answer {
    Answer { status, location: None, form: Form::Json, body: visible_json(text) }
}
