//! Pages say what the records say: figures, explanations, states, and the audit.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use templar_explore::Source;
use templar_explore::server::Site;
use templar_home::Home;
use templar_home::access::Access;
use templar_home::journal::Journal;
use templar_manifest::{MintKind, SecretKey, Signed, WindowIndex};
use templar_protocol::Node;

use super::fixture::{NAME, Stage, TOKEN, WINDOWS, get, stage};

fn json(stage: &Stage, path: &str) -> Value {
    let reply = stage.get(path);
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    serde_json::from_str(&reply.body).unwrap()
}

/// The node of the run, folded as the other commands fold it.
fn node(stage: &Stage) -> Node {
    let context = stage.source.context();
    let records = Journal::read(&stage.run_dir()).unwrap();
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
    assert!(page.contains(&format!("was paid {} ALPHA", templar_explore::text::alpha(micros))), "{page}");
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

/// A site that follows its journal while it grows, and begins anew when it shrinks, has the same pages as one that
/// reads it at once.
#[test]
fn following_is_reading() {
    let stage = stage();
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("home");
    Home::init(&root, &SecretKey::from_bytes(&[9; 32])).unwrap();
    let access = Access::write(&root).unwrap();
    let held = stage.source.access().unwrap();
    let context = stage.source.context();
    // Only the manifests and the text are needed, not the tensors of the run.
    for id in [stage.run.hash(), context.genesis.dataset.hash()] {
        access.put(held.blobs().read(&id, 1 << 20).unwrap().to_vec()).unwrap();
    }
    let run_dir = root.join("runs").join(stage.run.to_string());
    std::fs::create_dir_all(&run_dir).unwrap();
    std::fs::copy(stage.run_dir().join("start.json"), run_dir.join("start.json")).unwrap();
    access.home.set_current_run(&stage.run).unwrap();
    drop(access);
    let records = Journal::read(&stage.run_dir()).unwrap();
    let follower = Arc::new(Source::open(&root, None).unwrap());
    let site = Site::new(follower.clone(), "127.0.0.1:1".parse().unwrap(), &[], TOKEN.to_owned());
    let paths: Vec<String> = ["/run.json", "/miners.json", "/windows.json", "/window/2.json"].map(str::to_owned).into();
    let pay = [format!("/miner/{}/pay/1.json", stage.honest), format!("/validator/{}.json", stage.validator)];
    let paths = [paths, pay.to_vec()].concat();
    let pages = || paths.iter().map(|path| get(&site, path).body).collect::<Vec<_>>();
    let whole: Vec<String> = paths.iter().map(|path| stage.get(path).body).collect();
    let mut last = 0;
    for until in (0..=records.len()).step_by(7).chain([records.len(), 20, records.len()]) {
        Journal::replace(&run_dir, &records[..until]).unwrap();
        assert_eq!(follower.follow().unwrap(), until);
        let closed: Value = serde_json::from_str(&get(&site, "/run.json").body).unwrap();
        let closed = closed["closed"].as_array().unwrap().len();
        assert!(closed >= last || until == 20, "{until}");
        last = closed;
    }
    assert_eq!(pages(), whole);
}

/// The audit's progress once it has ended.
fn ended(stage: &Stage) -> Value {
    for _ in 0..600 {
        let progress = json(stage, "/audit.json");
        if progress["stage"] == "done" {
            return progress;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("the audit does not end");
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
    let done = ended(&stage);
    assert_eq!((&done["stage"], &done["answer"]["verdict"]), (&"done".into(), &"match".into()), "{done}");
    assert_eq!(done["windows"].as_object().unwrap().len() as u64, WINDOWS);
    assert_eq!(done["windows"]["1"]["contributions"].as_object().unwrap().len(), 2);
    let page = stage.get("/audit").body;
    assert!(page.contains("Match: 3 windows computed again, and every hash is the same."), "{page}");
}
