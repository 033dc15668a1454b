//! Pages say what the records say: figures, explanations, states, and the audit.

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use templar_home::journal::Journal;
use templar_manifest::{MintKind, Signed, Verdict, WindowIndex};
use templar_protocol::Node;

use super::fixture::{NAME, Stage, TOKEN, WINDOWS, stage};
use crate::source::Folded;

fn json(stage: &Stage, path: &str) -> Value {
    let reply = stage.get(path);
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    serde_json::from_str(&reply.body).unwrap()
}

/// The node of the run, folded as the other commands fold it.
fn node(stage: &Stage) -> Node {
    let context = stage.site.source().context();
    let records = Journal::read(&stage.root.join("runs").join(stage.run.to_string())).unwrap();
    context.fold(None, &records).unwrap()
}

#[test]
fn the_run_adds_up() {
    let stage = stage();
    let (run, node) = (json(&stage, "/run.json"), node(&stage));
    assert_eq!((&run["name"], &run["phase"]), (&NAME.into(), &"over".into()));
    assert_eq!(run["closed"].as_array().unwrap().len() as u64, WINDOWS);
    let claimed = || node.closed().iter().flat_map(|closed| &closed.contributions).map(Signed::payload);
    let sent: u64 = claimed().map(|claimed| claimed.delta_bytes).sum();
    assert_eq!(run["totals"]["delta_bytes"], sent);
    assert_eq!(run["totals"]["fp32_bytes"], claimed().count() as u64 * 4 * run["parameters"].as_u64().unwrap());
    let honest: u64 = claimed().filter(|claimed| claimed.miner == stage.honest).map(|claimed| claimed.tokens).sum();
    assert_eq!(run["totals"]["tokens"], honest, "the tokens of the cheat do not count");
    assert_eq!(run["supply"]["minted_micros"], node.state().ledger().minted_micros());
    let earned = |list: &str, key: &str, who: &str| {
        let rows = run[list].as_array().unwrap();
        rows.iter().find(|row| row[key] == who).unwrap()["paid_micros"].as_u64().unwrap()
    };
    let minted = |kinds: &[MintKind]| -> u64 {
        let mints = node.closed().iter().flat_map(|closed| &closed.window.body.mints);
        mints.filter(|mint| kinds.contains(&mint.kind)).map(|mint| mint.amount_micros).sum()
    };
    assert_eq!(earned("miners", "miner", &stage.honest.to_string()), minted(&[MintKind::Miner]));
    assert_eq!(earned("miners", "miner", &stage.cheat.to_string()), 0);
    let of_validator = minted(&[MintKind::Evaluations, MintKind::Replays]);
    assert_eq!(earned("validators", "validator", &stage.validator.to_string()), of_validator);
}

#[test]
fn a_window_names_who_cheated_and_how_it_was_found() {
    let stage = stage();
    let node = node(&stage);
    for closed in node.closed() {
        let window = json(&stage, &format!("/window/{}.json", closed.window.header.window));
        let updates = window["updates"].as_array().unwrap();
        let of = |who: &str| updates.iter().find(|update| update["miner"] == who).unwrap();
        assert_eq!(of(&stage.honest.to_string())["reached"], "aggregated");
        let cheat = of(&stage.cheat.to_string());
        assert_eq!(cheat["reached"], "revealed");
        assert!(cheat["reason"].as_str().unwrap().starts_with("replay differs from step 1"), "{cheat}");
        let counts =
            ["committed", "in_cut", "revealed", "valid", "aggregated"].map(|name| window[name].as_u64().unwrap());
        assert_eq!(counts, [2, 2, 2, 1, 1]);
        assert_eq!(window["seed"]["made_again"], window["seed"]["seed"]);
        assert_eq!(window["seed"]["reveals"][0]["follows"], true);
        assert_eq!(window["record_signatures"]["is_certified"], true);
        assert_eq!(window["record"], closed.record.to_string());
    }
    let page = stage.get("/window/1").body;
    assert!(page.contains("2 updates came in time, and 1 is in the new model. One was refused"), "{page}");
    assert!(page.contains("replay differs from step 1, first in model.embed_tokens.weight"));
}

#[test]
fn pay_is_explained_to_the_integer() {
    let stage = stage();
    let node = node(&stage);
    for (window, closed) in node.closed().iter().enumerate() {
        let pay = json(&stage, &format!("/miner/{}/pay/{window}.json", stage.honest));
        let paid = closed.window.body.mints.iter().find(|mint| mint.account == stage.honest).unwrap();
        assert_eq!(pay["mint"]["amount_micros"], paid.amount_micros);
        assert!(pay["weight"]["weight_ppm"].as_u64() > Some(0));
        let cheat = json(&stage, &format!("/miner/{}/pay/{window}.json", stage.cheat));
        assert_eq!((&cheat["mint"], &cheat["verdict"]["is_accepted"]), (&Value::Null, &false.into()));
    }
    let page = stage.get(&format!("/miner/{}/pay/0", stage.honest)).body;
    let micros =
        node.closed()[0].window.body.mints.iter().find(|mint| mint.account == stage.honest).unwrap().amount_micros;
    assert!(page.contains(&format!("was paid {} ALPHA", crate::text::alpha(micros))), "{page}");
}

/// A page that says who trained on it is among the pages that the rules give to that miner.
#[test]
fn pages_of_the_dataset_know_their_readers() {
    let stage = stage();
    let node = node(&stage);
    let window = WindowIndex(1);
    let pages = node.state_at(window).unwrap().pages_of(&stage.honest).unwrap();
    let text = json(&stage, &format!("/dataset/training/{}.json", pages[0]));
    let readers = text["read_by"].as_array().unwrap();
    assert!(readers.iter().any(|reader| reader[0] == window.0 && reader[1] == stage.honest.to_string()), "{readers:?}");
    assert_eq!(text["tokens"].as_array().unwrap().len(), 17);
    assert!(text["text"].as_str().unwrap().len() > 10);
    assert_eq!(json(&stage, "/dataset/held-out/0.json")["read_by"], Value::Array(Vec::new()));
}

/// A journal that is followed entry by entry gives the same as one that is read at once, and states that are folded
/// from kept ones are those that the protocol folds from the start.
#[test]
fn following_is_reading() {
    let stage = stage();
    let context = stage.site.source().context();
    let records = Journal::read(&stage.root.join("runs").join(stage.run.to_string())).unwrap();
    let (mut at_once, mut followed) = (Folded::new(context).unwrap(), Folded::new(context).unwrap());
    at_once.take(context, &records).unwrap();
    for until in 1..=records.len() {
        followed.take(context, &records[..until]).unwrap();
    }
    assert_eq!(followed.facts.windows, at_once.facts.windows);
    assert_eq!((followed.entries, followed.node == at_once.node), (records.len(), true));
    assert_eq!(
        (followed.facts.miners, followed.facts.validators),
        (at_once.facts.miners.clone(), at_once.facts.validators.clone())
    );
    for window in 0..=WINDOWS {
        let window = WindowIndex(window);
        assert_eq!(at_once.state_at(window), at_once.node.state_at(window), "{window}");
    }
    assert_eq!(at_once.state_at(WindowIndex(WINDOWS + 1)), None);
    let refused = at_once.node.closed().iter().flat_map(|closed| &closed.window.body.outcomes);
    let refused = refused.filter(|outcome| matches!(outcome.verdict, Verdict::Refused(_))).count();
    assert_eq!(at_once.facts.miners[&stage.cheat].refused, refused as u64);
}

#[test]
fn an_audit_from_the_browser_turns_green() {
    let stage = stage();
    let form = Request::post("/audit").header("host", "localhost:8460").header("origin", "http://localhost:8460");
    let form = form.header("sec-fetch-site", "same-origin").body(Body::from(format!("token={TOKEN}"))).unwrap();
    let page = stage.get("/audit").body;
    assert!(page.contains(&format!("name=\"token\" value=\"{TOKEN}\"")), "the form has the token");
    assert!(!stage.get("/audit.json").body.contains(TOKEN));
    let reply = stage.ask(form);
    assert_eq!((reply.status.as_u16(), reply.header("location")), (303, "/audit"), "{}", reply.body);
    // Meanwhile pages that read blobs share the home with it.
    assert_eq!(stage.get("/dataset/held-out/1").status, 200);
    stage.site.audit().wait();
    let done = json(&stage, "/audit.json");
    assert_eq!((&done["stage"], &done["answer"]["verdict"]), (&"done".into(), &"match".into()), "{done}");
    assert_eq!(done["windows"].as_object().unwrap().len() as u64, WINDOWS);
    assert_eq!(done["windows"]["1"]["contributions"].as_object().unwrap().len(), 2);
    let page = stage.get("/audit").body;
    assert!(page.contains("Match: 3 windows computed again, and every hash is the same."), "{page}");
}
