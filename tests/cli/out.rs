//! A model handed on: folders with a card, which are told from others; GGUF files; and a server that the program runs.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::{Value, json};
use templar_model::hf;

use super::home::{Home, Said};

#[test]
fn a_folder_is_told_to_be_a_checkpoint_or_not() {
    let home = Home::with_run("handed-on", &[]);
    home.window("0");
    let out = |name: &str| home.path().with_file_name(name).to_str().unwrap().to_owned();
    let (first, current, rounded) = (out("first"), out("current"), out("rounded"));
    let exported = home.ok(["export", "@", "--hf", &current, "--max-shard-bytes", "20000"]);
    home.ok(["export", "@", "--hf", &rounded, "--dtype", "bf16"]);

    let card = fs::read_to_string(Path::new(&current).join("README.md")).unwrap();
    let checkpoint = exported["checkpoint"].as_str().unwrap();
    let losses = home.ok(["log"])["windows"][0]["held_out_loss"].as_f64().unwrap();
    for fact in [checkpoint, "license: cc-by-2.5", &format!("| 0 | {losses:.4} |"), "templar verify FOLDER --run"] {
        assert!(card.contains(fact), "no {fact:?} in {card}");
    }
    let known = home.ok(["verify", &current]);
    assert_eq!(
        (&known["verdict"], &known["checkpoint"], &known["window"]),
        (&json!("match"), &exported["checkpoint"], &json!(1))
    );
    // What nothing was compared with is named, and so is a text that ends elsewhere.
    fs::write(Path::new(&current).join("modeling.py"), "").unwrap();
    let names = ["README.md", "generation_config.json", "modeling.py", "tokenizer_config.json"];
    assert_eq!(home.ok(["verify", &current])["not_compared"], json!(names));
    let settings = Path::new(&current).join("generation_config.json");
    let kept = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, kept.replace("\"eos_token_id\": 0", "\"eos_token_id\": 7")).unwrap();
    let config = Path::new(&current).join("config.json");
    let whole = fs::read_to_string(&config).unwrap();
    fs::write(&config, whole.replace("\"eos_token_id\": 0", "\"eos_token_id\": 7")).unwrap();
    let other = home.fails(4, ["verify", &current]).last();
    assert!(other["differences"].to_string().contains("do not end with token 0"), "{other}");
    fs::write(&settings, kept).unwrap();
    fs::write(&config, whole).unwrap();
    let known = home.ok(["verify", &rounded]);
    assert_eq!((&known["is_rounded"], &known["checkpoint"]), (&json!(true), &exported["checkpoint"]));

    // One bit of one weight.
    let (spec, mut parameters) = hf::import(Path::new(&current)).unwrap();
    parameters[5] = f32::from_bits(parameters[5].to_bits() ^ 1);
    let config: Value =
        serde_json::from_slice(&fs::read(Path::new(&current).join("tokenizer_config.json")).unwrap()).unwrap();
    let tokenizer = fs::read(Path::new(&current).join("tokenizer.json")).unwrap();
    let special = hf::SpecialIds { start: None, end: 0 };
    let contents = hf::FolderContents {
        spec: &spec,
        params: &parameters,
        special,
        tokenizer: &tokenizer,
        tokenizer_config: &config,
    };
    hf::export(Path::new(&first), &contents).unwrap();
    let other = home.fails(4, ["verify", &first]).last();
    assert!(
        other["verdict"] == "mismatch" && other["differences"][0].as_str().unwrap().contains("none of the 2"),
        "{other}"
    );
    // Another tokenizer, and another config.
    let text = String::from_utf8(tokenizer).unwrap().replacen("\"Ġt\"", "\"Ġ t\"", 1);
    fs::write(Path::new(&current).join("tokenizer.json"), text).unwrap();
    let other = home.fails(4, ["verify", &current]).last();
    assert!(other["differences"].to_string().contains("tokenizer.json gives other tokens"), "{other}");
}

#[test]
fn a_gguf_file_is_written_once() {
    let home = Home::with_run("gguf", &[]);
    let file = home.path().with_file_name("model.gguf").to_str().unwrap().to_owned();
    let written = home.ok(["export", "@", "--gguf", &file, "--dtype", "f16"]);
    assert_eq!(written["dtype"], "f16");
    assert!(fs::read(&file).unwrap().starts_with(b"GGUF\x03\0\0\0"));
    let again = home.fails(1, ["export", "@", "--gguf", &file]);
    assert!(again.err.contains("already there") || again.out.contains("already there"), "{again:?}");
    home.fails(2, ["export", "@", "--gguf", &file, "--dtype", "bf16"]);
    home.fails(2, ["export", "@"]);
}

#[test]
fn a_patched_folder_is_the_export_of_the_later_checkpoint() {
    let home = Home::with_run("patched", &[]);
    home.window("0");
    home.window("1");
    let out = |name: &str| home.path().with_file_name(name).to_str().unwrap().to_owned();
    for (dtype, from) in [("f32", "w0"), ("bf16", "w0")] {
        let (served, whole, patch) = (out(&format!("{dtype}-served")), out(&format!("{dtype}-whole")), out(dtype));
        let first = home.ok(["export", from, "--hf", &served, "--dtype", dtype, "--max-shard-bytes", "20000"]);
        let last = home.ok(["export", "@", "--hf", &whole, "--dtype", dtype, "--max-shard-bytes", "20000"]);
        let written = home.ok(["export", "@", "--patch", from, "--out", &patch, "--dtype", dtype]);
        assert_eq!((&written["from"], &written["checkpoint"]), (&first["checkpoint"], &last["checkpoint"]));
        // No home is needed.
        let apply =
            || Said::of(super::home::program().args(["export", "apply", &patch, &served, "--json"]).output().unwrap());
        let applied = apply();
        assert_eq!((applied.code, &applied.last()["checkpoint"]), (0, &last["checkpoint"]), "{applied:?}");
        for entry in fs::read_dir(&whole).unwrap() {
            let name = entry.unwrap().file_name();
            let [one, other] = [&whole, &served].map(|dir| fs::read(Path::new(dir).join(&name)).unwrap());
            assert!(one == other, "{name:?}");
        }
        assert_eq!(home.ok(["verify", &served])["checkpoint"], last["checkpoint"]);
        assert_eq!(apply().last()["tensors"], 0, "it is patched already");
    }
    // A patch for another type, one that is there, one that is cut, and a folder of another checkpoint.
    let said = home.fails(1, ["export", "apply", &out("bf16"), &out("f32-whole")]);
    assert!(said.err.contains("F32") && said.err.contains("same --dtype"), "{said:?}");
    assert!(home.fails(1, ["export", "@", "--patch", "w0", "--out", &out("f32")]).err.contains("already there"));
    let bytes = fs::read(out("f32")).unwrap();
    fs::write(out("cut"), &bytes[..bytes.len() - 1]).unwrap();
    let said = home.fails(4, ["export", "apply", &out("cut"), &out("f32-served")]);
    assert!(said.err.contains("is damaged") && said.err.contains("get the patch again"), "{said:?}");
    let start = home.ok(["run", "show"]);
    home.ok(["export", start["checkpoint"].as_str().unwrap(), "--hf", &out("start")]);
    let said = home.fails(4, ["export", "apply", &out("f32"), &out("start")]);
    assert!(said.err.contains("another model than checkpoint") && said.err.contains("templar verify"), "{said:?}");
    home.fails(2, ["export", "@", "--patch", "w0"]);
    home.fails(2, ["export", "@", "--out", &out("x")]);
    home.fails(2, ["export", "@", "--patch", "w0", "--out", &out("x"), "--dtype", "f16"]);
    home.fails(3, ["export", "@", "--patch", "w9", "--out", &out("x")]);
    home.fails(3, ["export", "apply", &out("nowhere"), &out("start")]);
    assert!(!Path::new(&out("x")).exists());
}

/// A server that is ended with the test.
struct Serving {
    child: Child,
    addr: String,
    said: Value,
}

impl Serving {
    fn start(home: &Home, arguments: &[&str]) -> Self {
        let mut command = home.command(["serve", "--bind", "127.0.0.1:0", "--json"]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
        let addr = said["url"].as_str().unwrap().trim_start_matches("http://").trim_end_matches("/v1").to_owned();
        Self { child, addr, said }
    }

    fn complete(&self, body: &Value) -> Value {
        let mut stream = TcpStream::connect(&self.addr).unwrap();
        let (body, host) = (body.to_string(), &self.addr);
        let head = format!("POST /v1/completions HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_current_checkpoint_is_served_and_a_newer_one_takes_over() {
    let home = Home::with_run("served", &[]);
    let first = home.ok(["status"])["checkpoint"].clone();
    let serving = Serving::start(&home, &["--follow", "--name", "mine"]);
    assert_eq!((&serving.said["checkpoint"], &serving.said["exact"]), (&first, &json!(true)));
    let ask = json!({ "model": "mine", "prompt": "HAMLET. ", "max_tokens": 6, "temperature": 0 });
    let answer = serving.complete(&ask);
    let generated = home.ok(["generate", "--prompt", "HAMLET. ", "--tokens", "6", "--greedy"]);
    assert_eq!(answer["choices"][0]["text"], generated["text"]);
    assert_eq!(answer["system_fingerprint"], first);
    // The server keeps no lock, so the run goes on beside it.
    home.window("0");
    let second = home.ok(["status"])["checkpoint"].clone();
    let mut found = answer;
    for _ in 0..300 {
        found = serving.complete(&ask);
        if found["system_fingerprint"] == second {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(found["system_fingerprint"], second);
    assert!(home.fails(2, ["serve", "--follow", "--model", "x"]).code == 2);
    assert_eq!(home.fails(3, ["serve", "--model", "/no/such/folder", "--bind", "127.0.0.1:0"]).code, 3);
}
