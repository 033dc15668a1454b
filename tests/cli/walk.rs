//! A run by hand, in one home that is miner and validator.

use std::collections::BTreeSet;

use serde_json::json;

use super::home::{Home, Said, hash};

#[test]
fn a_run_from_init_to_export() {
    let home = Home::new("walk");
    let key = hash(&home.ok(["key", "show"]), "key");
    let dataset = home.ok(["dataset", "import", "--bundled"]);
    let id = hash(&dataset, "dataset");
    assert_eq!(home.ok(["dataset", "show", &id[..8]])["manifest"]["name"], "shakespeare");
    assert_eq!(home.ok(["dataset", "verify", "shakespeare"])["verdict"], "match");
    assert!(home.ok(["dataset", "sample", &id, "--page", "3"])["text"].as_str().unwrap().len() > 20);

    let run = home.run_new(&[], &[]);
    assert_eq!(run["genesis"]["registration"]["members"], json!([key]));
    assert_eq!(run["genesis"]["inner"]["steps"], 4);
    assert_eq!(home.run_new(&[], &[]), run, "the same configuration is the same run");
    assert_eq!(home.ok(["run", "show"]), run);
    assert_eq!(home.ok(["run", "list"])["runs"][0]["current"], true);
    let first = hash(&run, "checkpoint");

    let mut losses = Vec::new();
    for window in ["0", "1"] {
        let trained = home.ok(["train", "--window", window]);
        assert!(trained["ratio_fp32"].as_f64().unwrap() > 2.0 * trained["ratio_bf16"].as_f64().unwrap() * 0.99);
        let again = home.ok(["train", "--window", window]);
        assert_eq!((again["already"].clone(), &again["contribution"]), (json!(true), &trained["contribution"]));
        let cut = home.ok(["close", "--commits", "--window", window]);
        assert_eq!(cut["contributions"][0]["contribution"], trained["contribution"]);
        let score = home.ok(["score", "--window", window]);
        assert_eq!(score["entries"][0]["replay"], "match");
        assert_eq!(home.ok(["score", "--window", window])["score"], score["score"]);
        let closed = home.ok(["close", "--window", window]);
        assert_eq!(closed["closed"], true);
        assert_eq!(closed["body"]["outcomes"][0]["verdict"], "aggregated");
        assert_eq!(home.ok(["close", "--window", window]), closed);
        losses.push(closed["held_out_loss"].as_f64().unwrap());
        assert_eq!(home.ok(["train", "--window", window])["verdict"], "match", "a closed window reproduces");
    }
    assert!(losses[1] < losses[0], "{losses:?}");

    let status = home.ok(["status"]);
    assert_eq!((status["window"].clone(), status["phase"].clone()), (json!(2), json!("commit")));
    // A single miner that took all steps mints the whole emission of both windows.
    assert_eq!(status["balances"]["minted_micros"], 2_000_000);
    assert_eq!(status["awaited"][0]["what"], "contribution");
    assert_eq!(home.ok(["log"])["windows"].as_array().unwrap().len(), 2);
    explanations(&home);
    audits(&home);
    objects(&home, &first);
    text(&home);
}

/// A record explains how it changes a standing, and why, and the pay is explained step by step.
fn explanations(home: &Home) {
    let record = home.ok(["show", "w1"]);
    let miner = &record["explanation"][0];
    let change = &miner["changes"][0];
    assert!(change["why"].as_str().unwrap().starts_with("gained "), "{miner}");
    assert_eq!((&change["before"], &change["after"]), (&miner["before"], &miner["after"]));
    // In the second of two windows the value moves by a twentieth, and by a twentieth of the remainder, up or down.
    let proof = miner["after"]["proof_nanos"].as_i64().unwrap();
    assert!([97_500_000, 2_500_000].contains(&proof.abs()), "{miner}");
    assert_eq!(miner["score_picos"], 0);
    let explain = ["explain", miner["miner"].as_str().unwrap(), "--window", "1"];
    let told = home.say(explain).out;
    assert!(told.contains("so the window mints 1.000000 of 1.000000 ALPHA"), "{told}");
    assert!(told.contains(" nats, from ") && !told.contains("1e-9"), "{told}");
    let narrow = Said::of(home.command(explain).env("COLUMNS", "60").output().unwrap()).out;
    assert!(narrow.lines().all(|line| line.chars().count() <= 60), "{narrow}");
    let text = home.say(["show", "w1"]).out;
    assert!(text.contains("proof +0.") || text.contains("proof -0."), "{text}");
}

/// An audit of all windows, of one window, without a network, and with a signature.
fn audits(home: &Home) {
    let all = home.ok(["audit", "--all"]);
    assert_eq!((all["verdict"].clone(), all["windows"].clone()), (json!("match"), json!(2)));
    let offline = home.ok(["audit", "--window", "1", "--offline"]);
    assert_eq!((offline["verdict"].clone(), offline["windows"].clone()), (json!("match"), json!(1)));
    match offline["network"].as_str().unwrap() {
        "unshared" => {}
        "not available" => eprintln!("skipped: this system lets no process leave its network"),
        _ => panic!("{offline}"),
    }
    let signed = home.fails(0, ["audit", "--sign"]).lines();
    let window = signed.iter().find(|line| line["type"] == "window").unwrap();
    let audit = home.ok(["show", &hash(window, "audit")]);
    assert_eq!(audit["kind"], "audit");
    assert_eq!(audit["contents"]["record_verdict"], "match");
    let said = home.say(["audit"]);
    assert_eq!(said.out.lines().last(), Some("match: 2 windows, 2 of 2 contributions replayed"), "{said:?}");
}

/// Every object can be shown, by hash and prefix, and links lead both ways.
fn objects(home: &Home, first: &str) {
    let record = home.ok(["show", "w1"]);
    assert_eq!(record["kind"], "window");
    let previous = record["contents"]["previous"].as_str().unwrap().to_owned();
    assert_eq!(home.ok(["show", &previous[..12]])["id"], previous.as_str());
    assert_eq!(home.ok(["show", "@"])["id"], record["contents"]["checkpoint"]);
    let body = home.ok(["show", &hash(&record["contents"], "body_root")]);
    let mut kinds = BTreeSet::new();
    let links = [&record, &body].map(|from| from["links"].as_array().unwrap().iter().map(move |link| (from, link)));
    for (from, link) in links.into_iter().flatten() {
        let id = link["id"].as_str().unwrap();
        let object = home.ok(["show", id]);
        assert_eq!(object["kind"], link["kind"], "{link}");
        let back = object["named_by"].as_array().unwrap();
        assert!(back.iter().any(|by| by["id"] == from["id"] && by["field"] == link["field"]), "{link}");
        kinds.insert(link["kind"].as_str().unwrap().to_owned());
        for link in object["links"].as_array().unwrap() {
            kinds.insert(link["kind"].as_str().unwrap().to_owned());
            if let "delta" | "trace" = link["kind"].as_str().unwrap() {
                let parts = home.ok(["show", link["id"].as_str().unwrap()]);
                assert_eq!(parts["contents"]["window"], 1, "{parts}");
                if link["kind"] == "delta" {
                    let contents = &parts["contents"];
                    assert_eq!(contents["by_tensor"].as_array().unwrap().len(), contents["tensors"], "{contents}");
                    assert!(contents["by_tensor"][0]["norm"].as_f64().unwrap() > 0.0);
                    assert!(contents["ratio_fp32"].as_f64().unwrap() > 100.0, "{contents}");
                }
            }
        }
    }
    for kind in ["genesis", "checkpoint", "contribution", "cut", "score", "window", "delta", "trace", "state", "tensor"]
    {
        assert!(kinds.contains(kind), "{kind} is not reached from a record: {kinds:?}");
    }
    assert_eq!(home.ok(["show", first])["contents"]["window"], 0);
    let verified = home.ok(["verify"]);
    assert_eq!((verified["verdict"].clone(), verified["missing"].clone()), (json!("match"), json!(0)), "{verified}");
}

/// The model can be used for text and exported as a folder.
fn text(home: &Home) {
    let greedy = home.ok(["generate", "--prompt", "To be", "--tokens", "5", "--greedy"]);
    assert!(!greedy["text"].as_str().unwrap().is_empty());
    let drawn =
        |seed| home.ok(["generate", "--checkpoint", "w0", "--tokens", "8", "--temperature", "1", "--seed", seed]);
    assert_eq!(drawn("a"), drawn("a"));
    assert_ne!(drawn("a")["text"], drawn("b")["text"]);
    let folder = home.path().with_file_name("hf");
    home.ok(["export", "@", "--hf", folder.to_str().unwrap()]);
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        assert!(folder.join(file).is_file(), "{file}");
    }
    home.fails(1, ["export", "@", "--hf", folder.to_str().unwrap()]);
}

/// Training begins from zero state every few windows, and the audit follows it.
#[test]
fn a_state_is_reset_when_genesis_says_so() {
    let home = Home::with_run("resets", &["state_reset_every=2"]);
    let begins = ["0", "1", "2"].map(|window| {
        home.window(window);
        let contribution = hash(&home.body(&format!("w{window}"))["outcomes"][0], "contribution");
        home.ok(["show", &contribution])["contents"]["parent"].is_null()
    });
    assert_eq!(begins, [true, false, true]);
    assert_eq!(home.ok(["audit"])["verdict"], "match");
}
