//! The doctor finds faults and says how to repair them. Metrics are served only to those who may ask.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};

use serde_json::Value;

use super::Home;
use super::running::Running;
use crate::cli::home::{hash, program};

/// The findings of the doctor about one subject. The command must end with `code`.
fn found(home: &Home, code: i32, arguments: &[&str], check: &str) -> Vec<(String, String)> {
    let mut all = vec!["doctor", "--patience", "1"];
    all.extend(arguments);
    let report = home.fails(code, all).last();
    let findings = report["findings"].as_array().unwrap().iter();
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
    for finding in findings.clone() {
        assert_eq!(finding["hint"].is_null(), finding["level"] == "ok", "{finding}");
    }
    findings.filter(|finding| finding["check"] == check).map(|one| (text(one, "level"), text(one, "text"))).collect()
}

#[test]
fn a_home_is_looked_at_and_what_is_wrong_is_said() {
    let absent = Home::absent();
    assert_eq!(found(&absent, 10, &[], "home")[0].0, "fail");
    let home = Home::new("doctor");
    assert_eq!(found(&home, 0, &[], "run")[0].0, "warn", "no run yet");
    for check in ["home", "key", "relay"] {
        assert_eq!(found(&home, 0, &[], check)[0].0, "ok", "{check}");
    }
    let port = found(&home, 0, &[], "port");
    assert!(port[0].1.contains("only this machine"), "{port:?}");
    assert_eq!(found(&home, 0, &[], "disk").len(), 2, "room and speed");

    // A port that another process holds, named in each of the three ways.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap().to_string();
    let taken = |found: Vec<(String, String)>| {
        let last = found.last().unwrap();
        assert!(last.0 == "fail" && last.1.contains(&addr) && last.1.contains("process"), "{last:?}");
    };
    taken(found(&home, 1, &["--bind", &addr], "port"));
    fs::write(home.path().join("config.toml"), format!("[network]\nbind = \"{addr}\"\n")).unwrap();
    taken(found(&home, 1, &[], "port"));
    assert_eq!(found(&home, 0, &["--bind", "127.0.0.1:0"], "port").last().unwrap().0, "ok", "the flag is stronger");
    let mut command = home.command(["doctor", "--json"]);
    let output = command.env("TEMPLAR_BIND", "127.0.0.1:0").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "and so is the environment");
    fs::write(home.path().join("config.toml"), "[network]\nport = 4433\n").unwrap();
    assert_eq!(found(&home, 1, &[], "settings")[0].0, "fail");
    assert_eq!(home.say(["node", "--role", "seeder"]).code, 1, "nothing else guesses what was meant either");

    let output = program().arg("status").env("TEMPLAR_RELAY", "somewhere").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    // A relay that does not exist: nothing listens at port 1.
    fs::remove_file(home.path().join("config.toml")).unwrap();
    let relay = found(&home, 1, &["--relay", "http://127.0.0.1:1", "--bind", "127.0.0.1:0"], "relay");
    assert!(relay[0].0 == "fail" && relay[0].1.contains("no connection"), "{relay:?}");
}

#[test]
fn peers_are_asked_beside_the_node_and_damage_is_found() {
    let home = Home::with_run("asked", &[]);
    let sharer = Running::start(&home, ["share"]);
    let joiner = Home::new("asking");
    joiner.ok(["run", "join", &sharer.ticket()]);
    let peer = found(&joiner, 0, &[], "peer");
    assert!(peer.len() == 1 && peer[0].0 == "ok" && peer[0].1.contains("answers in"), "{peer:?}");
    assert_eq!(found(&joiner, 0, &[], "clock")[0].0, "ok", "the same clock");
    assert_eq!(found(&joiner, 0, &[], "store")[0].0, "ok");
    // The doctor beside a running node of its own home, which is locked and whose key is in use.
    assert!(found(&home, 0, &[], "home").iter().any(|(_, text)| text.contains("a node runs here")));
    assert_eq!(found(&home, 0, &["--peer", &sharer.ticket()], "store")[0].0, "ok", "read through the node");
    sharer.stop();
    let peer = found(&joiner, 1, &[], "peer");
    assert_eq!(peer[0].0, "fail", "{peer:?}");

    let data = joiner.path().join("store/data");
    let files = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let shard = files
        .filter(|path| path.extension().is_some_and(|ending| ending == "data"))
        .max_by_key(|path| fs::metadata(path).unwrap().len());
    let shard = shard.unwrap();
    let mut bytes = fs::read(&shard).unwrap();
    bytes[1000] ^= 1;
    fs::write(&shard, bytes).unwrap();
    let name = shard.file_stem().unwrap().to_str().unwrap();
    let store = found(&joiner, 1, &[], "store");
    assert!(store.iter().any(|(level, text)| level == "fail" && text.contains(name)), "{store:?}");
}

#[test]
fn metrics_and_pages_are_answered_where_they_are_asked_for() {
    let home = Home::with_run("metrics", &[]);
    let any = "127.0.0.1:0";
    let node = Running::start(&home, ["node", "--role", "seeder", "--metrics", any, "--http", any]);
    let addr = node.until(|line| line["type"] == "metrics")["addr"].as_str().unwrap().to_owned();
    let get = |addr: &str, path: &str| {
        let mut stream = TcpStream::connect(addr).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let text = get(&addr, "/metrics");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("# EOF\n"), "{text}");
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(&format!("{name} "))?.parse::<u64>().ok());
    assert_eq!(value("templar_node_entries"), Some(0));
    assert_eq!(value("templar_node_window"), Some(0));
    assert!(value("templar_node_store_bytes").unwrap() > 100_000, "{text}");
    assert_eq!(value("templar_net_connections_refused_total"), Some(0));
    let url = node.until(|line| line["type"] == "listening")["url"].as_str().unwrap().to_owned();
    let pages = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let run = get(&pages, "/run.json");
    assert!(run.starts_with("HTTP/1.1 200 OK\r\n") && run.contains(&hash(&home.ok(["run", "show"]), "run")), "{run}");
    // From here on both ports are in use.
    let other = Home::with_run("metrics too", &[]);
    for (option, addr) in [("--metrics", &addr), ("--http", &pages)] {
        let error = super::refused(&other, 1, ["node", "--role", "seeder", option, addr]);
        assert!(error["error"].as_str().unwrap().contains(addr.as_str()), "{error}");
    }
    node.stop();
}
