//! The second implementation of the rules, in Python (`verifier/`), agrees with the program: on the examples, on every
//! hostile input, on simulated runs with cheats, and on a demo. Without Python 3.9 the tests say that they skip.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use templar_manifest::{ContributionId, Hash, proof};
use templar_sim::{Config, KeptRun, ReplayMode, Simulation, Strategy};

use crate::attacks::{self, Attack};
use crate::vectors::example;

/// Python, to be run in the folder of the package; `None` where there is none, which is said.
fn python() -> Option<Command> {
    static IS_HERE: OnceLock<bool> = OnceLock::new();
    let is_new_enough = || {
        let check = "import sys; sys.exit(sys.version_info < (3, 9))";
        Command::new("python3").args(["-c", check]).status().is_ok_and(|status| status.success())
    };
    if !IS_HERE.get_or_init(is_new_enough) {
        eprintln!("skipped: no Python 3.9 is here for tests/verifier");
        return None;
    }
    let mut python = Command::new("python3");
    python.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests")).env("PYTHONDONTWRITEBYTECODE", "1");
    Some(python)
}

/// The exit code and the JSON of the verifier about a folder.
fn verify(folder: &Path, arguments: &[&str]) -> Option<(i32, Value)> {
    let output = python()?.args(["-m", "verifier", "--json"]).args(arguments).arg(folder).output().unwrap();
    let said = serde_json::from_slice(&output.stdout);
    let said = said.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    Some((output.status.code().unwrap_or(-1), said))
}

/// The package's own tests: published vectors, the tables of `manifests/README.md`, and a run in which one thing is
/// changed. `demo` is the folder of a demo.
fn own_tests(demo: Option<&Path>) {
    let Some(mut python) = python() else { return };
    let tests = match demo {
        Some(demo) => {
            python.env("VERIFIER_DEMO", demo).args(["-m", "unittest", "verifier.tests.test_mutations.MutationsOfADemo"])
        }
        None => python.args(["-m", "unittest", "discover", "-s", "verifier/tests", "-t", "."]),
    };
    let Output { status, stderr, .. } = tests.output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
}

#[test]
fn its_own_tests_pass() {
    own_tests(None);
}

#[test]
fn the_example_recomputes_and_draws_what_the_program_draws() {
    let folder = crate::vectors::folder::path();
    let Some((code, said)) = verify(&folder, &["--derived"]) else { return };
    let record = &example().closed.record;
    assert_eq!((code, &said["verdict"]), (0, &json!("match")), "{said}");
    assert_eq!(said["runs"][0]["records"], json!([record.hash().to_string()]));
    let header = &example().closed.window.header;
    assert_eq!(said["runs"][0]["state_root"], json!(header.state_root.to_string()));

    let derived = &said["runs"][0]["derived"][0];
    let before = &example().before;
    let judging = before.judging_of(&example().closed).unwrap();
    let (run, seed) = (before.run(), judging.seed());
    assert_eq!(derived["seed"], json!(seed.to_string()));
    for (miner, pages) in before.genesis().miners().iter().zip(before.assignment().slots()) {
        assert_eq!(derived["pages"][miner.to_string()], json!(pages));
    }
    let values: BTreeMap<_, _> =
        example().closed.window.body.reveals.iter().map(|reveal| (reveal.validator, reveal.value)).collect();
    let tensors = example().start.tensors.len();
    for (found, signed) in derived["contributions"].as_array().unwrap().iter().zip(&example().closed.contributions) {
        let (contribution, id) = (signed.payload(), ContributionId::from(signed.id()));
        let task = before.evaluation_task(&judging, &contribution.miner).unwrap();
        assert_eq!(found["miner"], json!(contribution.miner.to_string()));
        assert_eq!(derived["unassigned_pages"], json!(task.unassigned));
        assert_eq!(found["assigned_pages"], json!(task.assigned));
        let replayers = judging.replayers()[&contribution.miner].iter().map(|validator| {
            let draw = proof::ProofDraw::new(&run, &seed, validator, &values[validator], &id);
            let place = json!({
                "key": draw.key().to_string(),
                "step": draw.step(contribution.steps),
                "tensor": draw.tensor(tensors),
            });
            (validator.to_string(), place)
        });
        assert_eq!(found["replayers"], Value::Object(replayers.collect()));
        let evaluators: Vec<String> =
            judging.evaluators()[&contribution.miner].iter().map(ToString::to_string).collect();
        assert_eq!(found["evaluators"].as_object().unwrap().keys().cloned().collect::<Vec<_>>(), evaluators);
        for validator in &judging.evaluators()[&contribution.miner] {
            let passes = [b"1", b"2", b"3", b"4"].map(|pass| Hash::of(pass));
            let claim = proof::EvaluationKey::new(&run, &seed, validator, &id).claim(&proof::hidden_states(&passes));
            let asked = json!({
                "key": found["evaluators"][validator.to_string()],
                "passes": passes.map(|pass| pass.to_string()),
            });
            assert_eq!(judged(&[asked]).unwrap(), [json!(claim.to_string())]);
        }
    }
}

/// What `verifier/corpus.py` says of each input.
fn judged(inputs: &[Value]) -> Option<Vec<Value>> {
    let mut corpus = python()?;
    let mut child =
        corpus.args(["-m", "verifier.corpus"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let lines: String = inputs.iter().map(|input| format!("{input}\n")).collect();
    let writer = std::thread::spawn(move || pipe.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// Inputs that a folder does not show as the program sees them: entries in a folder have no order and no duplicates, are
/// opened one by one, and the first checkpoint follows from arithmetic.
const FOR_THE_PROGRAM: [&str; 8] = [
    "contribution: after a cut without it",
    "registration: a second one of the same owner",
    "registration: after a cut without it",
    "another start",
    "closed: the cut's signatures under the record",
    "closed: under another id",
    "closed: a score exchanged for the other",
    "closed: an inbox left out",
];

#[test]
fn hostile_inputs_get_the_documented_answers() {
    let sections: [(&str, Vec<Attack>); 6] = [
        ("Payloads", attacks::payload::attacks()),
        ("Rules of a kind", attacks::payload::broken_rules()),
        ("Signatures", attacks::signature::attacks()),
        ("Entries", attacks::entry::attacks()),
        ("Statements about a window", attacks::rules::attacks()),
        ("Records", attacks::rules::records()),
    ];
    let mut faults = Vec::new();
    for (section, attacks) in sections {
        let documented = attacks::documented(section);
        let asked: Vec<&Attack> =
            attacks.iter().filter(|attack| attack.sent.is_some() && !FOR_THE_PROGRAM.contains(&attack.input)).collect();
        let inputs: Vec<Value> = asked.iter().filter_map(|attack| attack.sent.clone()).collect();
        let Some(answers) = judged(&inputs) else { return };
        assert_eq!(answers.len(), asked.len(), "{section}");
        for (attack, answer) in asked.iter().zip(answers) {
            let answer = answer.as_str().unwrap_or("nothing is wrong").to_owned();
            if !attacks::matches(documented[attack.input], &answer) {
                faults.push(format!("{section}: {}: {answer:?}, not {:?}", attack.input, documented[attack.input]));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Writes a simulated run as a folder that the verifier reads.
fn write(kept: &KeptRun, folder: &Path) {
    let genesis = folder.join(format!("genesis-{}.cbor", Hash::of(&kept.genesis)));
    fs::write(genesis, &kept.genesis).unwrap();
    let framed = kept
        .entries
        .iter()
        .flat_map(|entry| [&(entry.len() as u32).to_le_bytes()[..], Hash::of(entry).as_bytes(), entry].concat());
    fs::write(folder.join("journal"), framed.collect::<Vec<u8>>()).unwrap();
}

/// Every strategy of the simulator is played in one of three runs, by a member that has others beside it.
#[test]
fn simulated_runs_with_cheats_come_to_the_same_states() {
    for (number, replays) in [ReplayMode::Three, ReplayMode::Late, ReplayMode::Sparse].into_iter().enumerate() {
        let played = Strategy::ALL.iter().skip(number).step_by(3);
        agree_on(Config {
            miners: 24,
            validators: 22,
            newcomers: 4,
            windows: 8,
            replays,
            adversaries: played.map(|strategy| (*strategy, 1)).collect(),
            keep_history: true,
            ..Config::default()
        });
    }
}

/// Three of ten validators lie about what only they measured. Others contest it in the next window.
#[test]
fn contests_of_a_league_come_to_the_same_states() {
    let run = agree_on(Config {
        miners: 8,
        validators: 10,
        windows: 12,
        replays: ReplayMode::Three,
        adversaries: vec![(Strategy::League, 3)],
        keep_history: true,
        ..Config::default()
    });
    let Some(run) = run else { return };
    assert!(run["contests"].as_u64() > Some(0), "{run}");
}

/// What the verifier says of a simulated run; `None` where there is no Python.
fn agree_on(config: Config) -> Option<Value> {
    let (report, kept) = Simulation::new(config.clone()).unwrap().run_and_keep(&mut |_| ()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    write(&kept, dir.path());
    let (zero, tokens) = kept.told.split_at(32);
    let tokens = u64::from_le_bytes(tokens.try_into().unwrap());
    let told = format!("{}:{tokens}", HEXLOWER.encode(zero));
    let (code, said) = verify(dir.path(), &["--simulated", &told])?;
    assert_eq!((code, &said["verdict"]), (0, &json!("match")), "{config:?}: {said}");
    assert_eq!(said["runs"][0]["windows"], json!(report.progress.windows), "{config:?}");
    Some(said["runs"][0].clone())
}

/// Compares the verifier with the program on the homes that a demo has left, as they are and with damage, and changes the
/// run in one place at a time. `result` is the last line of the demo.
pub(crate) fn agrees_on_a_demo(demo: &Path, result: &Value) {
    for home in ["audit", "miner-1", "validator-2"] {
        let Some((code, said)) = verify(&demo.join(home), &[]) else { return };
        assert_eq!((code, &said["verdict"]), (0, &json!("match")), "{home}: {said}");
        let run = &said["runs"][0];
        assert_eq!((&run["run"], &run["windows"]), (&result["run"], &result["windows"]));
        let minted = run["minted_micros"].as_f64().unwrap() / 1e6;
        assert!((minted - result["minted"].as_f64().unwrap()).abs() < 1e-6, "{said}");
        let log = program(&demo.join(home), &["log"]).1.remove(0);
        let records: Vec<&Value> = log["windows"].as_array().unwrap().iter().map(|window| &window["record"]).collect();
        assert_eq!(records, run["records"].as_array().unwrap().iter().collect::<Vec<_>>());
        let theirs = program(&demo.join(home), &["verify"]);
        assert_eq!((theirs.0, &theirs.1[0]["verdict"], &theirs.1[0]["entries"]), (0, &json!("match"), &run["entries"]));
    }
    own_tests(Some(demo));
    let home = demo.join("audit");
    let store = home.join("store").join("data");
    let blob = fs::read_dir(&store)
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|file| file.extension().is_some_and(|extension| extension == "data"));
    let run = home.join("runs").join(result["run"].as_str().unwrap());
    for file in [blob.unwrap(), run.join("journal")] {
        let whole = fs::read(&file).unwrap();
        let mut damaged = whole.clone();
        damaged[100] ^= 0x10;
        fs::write(&file, &damaged).unwrap();
        let (theirs, ours) = (program(&home, &["verify"]), verify(&home, &[]).unwrap());
        fs::write(&file, whole).unwrap();
        assert_eq!((theirs.0, &theirs.1[0]["verdict"]), (5, &json!("unavailable")), "{:?}", theirs.1);
        assert_eq!((ours.0, &ours.1["verdict"]), (5, &json!("unavailable")), "{}", ours.1);
        for what in [&theirs.1[0]["what"], &ours.1["what"]] {
            assert!(what.as_str().unwrap().starts_with("damaged here: "), "{what}");
        }
    }
}

/// The exit code and the JSON lines of a command in a home.
fn program(home: &Path, command: &[&str]) -> (i32, Vec<Value>) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_templar"));
    let output =
        program.arg("--json").arg("--home").arg(home).args(command).env_remove("TEMPLAR_HOME").output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap_or(-1), lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}
