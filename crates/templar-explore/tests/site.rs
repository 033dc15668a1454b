//! The whole site over a small run: its links, its figures, hostile texts, hostile requests, and the audit.

#[path = "site/fixture.rs"]
mod fixture;
#[path = "site/guard.rs"]
mod guard;
#[path = "site/truth.rs"]
mod truth;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fixture::{NAME, Stage, stage};
use serde_json::Value;

/// The addresses in the links, forms and files of a page.
fn links(page: &str) -> BTreeSet<String> {
    let after =
        |attribute: &'static str| page.split(attribute).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
    after(" href=\"").chain(after(" src=\"")).chain(after(" action=\"")).filter(|link| !link.starts_with('#')).collect()
}

/// Every page that can be reached from the first, by its address.
fn crawl(stage: &Stage) -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    let mut next = VecDeque::from(["/".to_owned()]);
    // Neighbouring pages of the dataset lead through all of it; those near the first are enough.
    let is_far = |link: &str| {
        let page = link
            .strip_prefix("/dataset/")
            .and_then(|rest| rest.split_once('/'))
            .and_then(|(_, page)| page.parse().ok());
        page.is_some_and(|page: u64| page > 3)
    };
    while let Some(link) = next.pop_front() {
        if pages.contains_key(&link) {
            continue;
        }
        let reply = stage.get(&link);
        let search = link.starts_with("/find");
        assert!(reply.status == 200 || search, "{link}: {} {}", reply.status, reply.body);
        if reply.header("content-type").starts_with("text/html") && !is_far(&link) {
            next.extend(links(&reply.body));
        }
        pages.insert(link, reply.body);
    }
    pages
}

#[test]
fn every_link_answers_and_every_page_has_a_twin() {
    let stage = stage();
    // Without this every page of an object would open the home again.
    let _held = stage.source.access().unwrap();
    let pages = crawl(&stage);
    assert!(pages.len() > 80, "{:?}", pages.keys());
    for kind in
        ["/window/2", "/miner/", "/validator/", "/object/", "/dataset/held-out/0", "/dataset/training/", "/audit"]
    {
        assert!(pages.keys().any(|path| path.starts_with(kind)), "no link leads to {kind}");
    }
    let twins: Vec<&String> = pages.keys().filter(|path| path.ends_with(".json")).collect();
    assert!(twins.len() > 70, "{}", twins.len());
    for twin in twins {
        let value: Value = serde_json::from_str(&pages[twin]).unwrap();
        assert!(value.is_object() && value.get("why").is_none(), "{twin}");
    }
}

#[test]
fn texts_of_strangers_are_text_and_nothing_runs_or_comes_from_elsewhere() {
    let stage = stage();
    let _held = stage.source.access().unwrap();
    let mut pages: Vec<String> =
        crawl(&stage).into_iter().filter(|(path, _)| !path.contains('.')).map(|(_, page)| page).collect();
    for path in ["/find?q=%3Cb%3E%22%E2%80%AE", "/miner/%3Cscript%3E", "/object/<i>", "/window/<i>", "/nothing/<i>"] {
        let reply = stage.get(&path.replace('<', "%3C").replace('>', "%3E"));
        assert_eq!(reply.status, 404, "{path}");
        pages.push(reply.body);
    }
    for page in &pages {
        let head = page.split("<body>").next().unwrap();
        assert!(
            !page.contains(NAME) && !page.contains("<b>") && !page.contains("<img") && !page.contains("<i>"),
            "{page}"
        );
        assert_eq!(page.matches("<script").count(), 1, "the one script is a file: {head}");
        assert!(page.contains("<script src=\"/live.js\" defer></script>"));
        assert!(!page.contains("style=") && !page.contains("onclick") && !page.contains("javascript:"));
        assert!(!page.contains('\u{202e}'));
        let elsewhere = links(page).into_iter().find(|link| !link.starts_with('/') || link.starts_with("//"));
        assert_eq!(elsewhere, None);
    }
    assert!(pages.iter().any(|page| page.contains("&lt;img src=x onerror=alert(2)&gt;")), "the licence is shown");
    assert!(pages.iter().any(|page| page.contains("\\u{202e}")), "the mark is written out");
}

/// Only the plots put text into a page that no template escapes, and they escape their own.
#[test]
fn templates_escape_everything_else() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![folder.clone()];
    let mut found = Vec::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if std::fs::read_to_string(&path).unwrap().contains(concat!("Pre", "Escaped(")) {
            found.push(path.strip_prefix(&folder).unwrap().to_owned());
        }
    }
    assert_eq!(found, [std::path::Path::new("plot.rs")]);
}
