//! Bytes that are no payload, or break a rule of their kind.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use ipld_core::ipld::Ipld;
use serde_json::json;
use templar_manifest::*;

use super::{Attack, Told, refused};
use crate::vectors::example;

fn inbox_bytes() -> Vec<u8> {
    payload::encode(example().closed.inboxes[0].payload())
}

/// Decodes bytes as a peer would.
fn read<T: Payload>(bytes: &[u8]) -> Told<T, PayloadError> {
    let sent = json!({ "kind": T::KIND.to_string(), "payload": HEXLOWER.encode(bytes) });
    Told { answer: payload::decode(bytes), sent }
}

fn decode(bytes: &[u8]) -> Told<Inbox, PayloadError> {
    read(bytes)
}

/// The example inbox as a stock library reads it, changed, and written again.
fn changed(change: impl FnOnce(&mut BTreeMap<String, Ipld>)) -> Vec<u8> {
    let mut value: Ipld = serde_ipld_dagcbor::from_slice(&inbox_bytes()).unwrap();
    let Ipld::Map(fields) = &mut value else { unreachable!() };
    change(fields);
    serde_ipld_dagcbor::to_vec(&value).unwrap()
}

fn body(change: impl FnOnce(&mut BTreeMap<String, Ipld>)) -> Vec<u8> {
    changed(|fields| match fields.get_mut("body") {
        Some(Ipld::Map(body)) => change(body),
        _ => unreachable!(),
    })
}

/// The example inbox with one stretch of bytes replaced.
fn spliced(find: &[u8], replace: &[u8]) -> Vec<u8> {
    let bytes = inbox_bytes();
    let at = bytes.windows(find.len()).position(|window| window == find).unwrap();
    [&bytes[..at], replace, &bytes[at + find.len()..]].concat()
}

/// The two bytes at the start of a field's name and all of it: `inbox`'s `window` begins so.
const WINDOW: &[u8] = b"fwindow\x00";

/// Contests about miners with these keys.
fn contests(miners: &[u8]) -> Vec<Contest> {
    let contest = |miner: &u8| Contest {
        miner: PublicKey::from_bytes([*miner; 32]),
        contribution: ContributionId::default(),
        found: None,
    };
    miners.iter().map(contest).collect()
}

pub(crate) fn attacks() -> Vec<Attack> {
    let bytes = inbox_bytes();
    let behind = [&bytes[..], &[0]].concat();
    let kind_first = {
        // The map's three fields in the order kind, body, version.
        let kind = b"dkindeinbox".as_slice();
        let at = bytes.windows(kind.len()).position(|window| window == kind).unwrap();
        [&bytes[..1], kind, &bytes[1..at], &bytes[at + kind.len()..]].concat()
    };
    let nested = |depth: usize| [b"\xa3dbody".as_slice(), &vec![0x81; depth], b"\x00dkindeinboxgversion\x00"].concat();
    let announced = |head: &[u8]| [b"\xa3dbody".as_slice(), head].concat();
    let contributions = spliced(b"mcontributions\x82", b"mcontributions\x9b\x00\x00\x00\x01\x00\x00\x00\x00");
    vec![
        refused("no bytes", decode(&[])),
        refused("one byte more than any payload may have", decode(&vec![0; MAX_PAYLOAD_BYTES + 1])),
        refused("cut off in the middle", decode(&bytes[..bytes.len() / 2])),
        refused("a byte behind the end", decode(&behind)),
        refused("an integer with a long head", decode(&spliced(WINDOW, b"fwindow\x18\x00"))),
        refused("a map of indefinite length", decode(&[b"\xbf".as_slice(), &bytes[1..], b"\xff"].concat())),
        refused("fields in another order", decode(&kind_first)),
        refused("a field twice", decode(&spliced(b"\xa5crun", b"\xa6fwindow\x00crun"))),
        refused("an unknown field in the body", decode(&body(|body| drop(body.insert("note".into(), Ipld::Null))))),
        refused("an unknown field beside the body", decode(&changed(|all| drop(all.insert("sig".into(), Ipld::Null))))),
        refused("a field left out", decode(&body(|body| drop(body.remove("validator"))))),
        refused("null where something must be", decode(&body(|body| drop(body.insert("window".into(), Ipld::Null))))),
        refused("a float", decode(&body(|body| drop(body.insert("window".into(), Ipld::Float(1.5)))))),
        refused("a negative integer", decode(&body(|body| drop(body.insert("window".into(), Ipld::Integer(-1)))))),
        refused("an integer as text", decode(&body(|body| drop(body.insert("window".into(), "0".into()))))),
        refused("a hash of 31 bytes", decode(&body(|body| drop(body.insert("run".into(), Ipld::Bytes(vec![0; 31])))))),
        refused("a hash as text", decode(&body(|body| drop(body.insert("run".into(), "6d60bd35".into()))))),
        refused("a tag", decode(&spliced(WINDOW, b"fwindow\xc1\x00"))),
        refused("text that is not UTF-8", decode(&spliced(b"dkindeinbox", b"dkinde\xff\xfe\xfd\xfc\xfb"))),
        refused("arrays nested a million deep", decode(&nested(1_000_000))),
        refused("an array announced with 2^32 elements", decode(&contributions)),
        refused("an array announced with 2^64 - 1 elements", decode(&announced(&[&[0x9b][..], &[0xff; 8]].concat()))),
        refused(
            "a byte string announced with ten gigabytes",
            decode(&announced(b"\x5b\x00\x00\x00\x02\x54\x0b\xe4\x00")),
        ),
        refused("another kind", decode(&payload::encode(&example().closed.cut))),
        refused("an unknown kind", decode(&changed(|all| drop(all.insert("kind".into(), "ballot".into()))))),
        refused("a later version", decode(&changed(|all| drop(all.insert("version".into(), Ipld::Integer(1)))))),
    ]
}

/// Encodes a payload that was changed, and decodes it as a peer would.
fn with<T: Payload>(base: &T, change: impl FnOnce(&mut T)) -> Told<T, PayloadError> {
    let mut payload = base.clone();
    change(&mut payload);
    read(&payload::encode(&payload))
}

/// The example genesis with one text replaced by another of the same length, which a value of its type cannot spell.
fn genesis_with_name(known: &str, unknown: &str) -> Told<Genesis, PayloadError> {
    assert_eq!(known.len(), unknown.len());
    let mut bytes = payload::encode(example().genesis.payload());
    let at = bytes.windows(known.len()).position(|window| window == known.as_bytes()).unwrap();
    bytes[at..at + known.len()].copy_from_slice(unknown.as_bytes());
    read(&bytes)
}

pub(crate) fn broken_rules() -> Vec<Attack> {
    let example = example();
    let genesis = example.genesis.payload();
    let dataset = example.dataset.payload();
    let contribution = example.closed.contributions[0].payload();
    let asked = example.closed.registrations[0].payload();
    let (inbox, cut) = (example.closed.inboxes[0].payload(), &example.closed.cut);
    let WindowRecord { header, body: record } = &example.closed.window;
    let score = example.closed.scores[0].payload();
    let (checkpoint, audit) = (&example.start, example.audit.payload());
    let state = &State { run: checkpoint.run, optimizer_steps: 4, tensors: checkpoint.tensors.clone() };
    let key = PublicKey::from_bytes([9; 32]);
    let weights = |parts: &[u32]| {
        let weight = |(index, &weight_ppm): (usize, &u32)| Weight {
            miner: PublicKey::from_bytes([index as u8; 32]),
            weight_ppm,
        };
        parts.iter().enumerate().map(weight).collect::<Vec<_>>()
    };
    let many = (0..=MAX_ENTRIES as u32).map(|index| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&index.to_be_bytes());
        CutEntry { miner: PublicKey::from_bytes(bytes), contribution: Hash::of(b"").into() }
    });
    vec![
        refused("genesis: an unknown arithmetic", genesis_with_name("f32/1", "f64/1")),
        refused("genesis: an unknown quantiser", genesis_with_name("templar4", "templar5")),
        refused("genesis: an unknown aggregation rule", genesis_with_name("mean-of-senders", "mean-of-members")),
        refused("genesis: a name of other letters", with(genesis, |g| g.name = "d\u{e9}mo".into())),
        refused("genesis: a name of 65 bytes", with(genesis, |g| g.name = "a".repeat(65))),
        refused("genesis: no inner steps", with(genesis, |g| g.inner.steps = 0)),
        refused("genesis: micro-batches that do not fit", with(genesis, |g| g.inner.micro_batch_sequences = 3)),
        refused("genesis: an epsilon that is not a number", with(genesis, |g| g.inner.eps_bits = f32::NAN.to_bits())),
        refused("genesis: no learning rate", with(genesis, |g| g.inner.schedule.clear())),
        refused("genesis: a learning rate above 1", with(genesis, |g| g.inner.schedule[0].to_nanos = 1_000_000_001)),
        refused("genesis: no outer learning rate at first", with(genesis, |g| g.outer.schedule[0].from_window = 1)),
        refused("genesis: a context that begins with the run", with(genesis, |g| g.context[0].from_window = 0)),
        refused("genesis: two contexts from one window", with(genesis, |g| g.context.push(g.context[0]))),
        refused("genesis: a context of no tokens", with(genesis, |g| g.context[0].sequence_length = 0)),
        refused("genesis: no tensors to start from", with(genesis, |g| g.initial = Initial::Tensors(vec![]))),
        refused("genesis: a penalty that pays", with(genesis, |g| g.gauntlet.penalties[0].factor_ppm = 1_000_001)),
        refused("genesis: a graver fault that costs less", {
            with(genesis, |g| g.gauntlet.penalties[1].factor_ppm = 800_000)
        }),
        refused("genesis: penalties in another order", with(genesis, |g| g.gauntlet.penalties.swap(0, 1))),
        refused("genesis: performances that never vary", with(genesis, |g| g.gauntlet.rating.beta_micros = 0)),
        refused("genesis: a proof that never moves", with(genesis, |g| g.gauntlet.proof.decay_ppm = 0)),
        refused("genesis: more drawn than aggregated", with(genesis, |g| g.gauntlet.exploration_contributions = 21)),
        refused("genesis: the fourth power of a score", {
            with(genesis, |g| g.gauntlet.weights = WeightRule::ScorePower { exponent: 4 })
        }),
        refused("genesis: pages to measure on where steps are paid", {
            with(genesis, |g| g.gauntlet.weights = WeightRule::ProvenSteps)
        }),
        refused("genesis: steps that are paid and not used", {
            with(genesis, |g| {
                g.gauntlet.weights = WeightRule::ProvenSteps;
                (g.gauntlet.assigned_pages, g.gauntlet.unassigned_pages, g.gauntlet.evaluators) = (0, 0, 0);
                g.registration.slots = g.outer.max_contributions + 1;
            })
        }),
        refused(
            "genesis: cheating that pays",
            with(genesis, |g| {
                let replay = &mut g.replay;
                (replay.before_close, replay.verdict_windows, replay.challenge_windows) = (false, 1, 1);
                (replay.fraction_ppm, replay.least_replays) = (100_000, 0);
            }),
        ),
        refused(
            "genesis: a slot that is burnt for at less than it costs",
            with(genesis, |g| g.emission.registration_cost_micros = g.registration.burn.least + 1),
        ),
        refused("genesis: nobody replays", with(genesis, |g| g.replay.least_replays = 0)),
        refused("genesis: late verdicts before the record", with(genesis, |g| g.replay.verdict_windows = 1)),
        refused(
            "genesis: late verdicts without challenges",
            with(genesis, |g| (g.replay.before_close, g.replay.verdict_windows) = (false, 1)),
        ),
        refused("genesis: parts above the whole emission", with(genesis, |g| g.emission.treasury_ppm = 180_001)),
        refused("genesis: an emission that overflows", with(genesis, |g| g.emission.per_window_micros = u64::MAX)),
        refused("genesis: no validators", with(genesis, |g| g.validators.clear())),
        refused("genesis: a validator without stake", with(genesis, |g| g.validators[0].stake = 0)),
        refused("genesis: stake that overflows", with(genesis, |g| g.validators[0].stake = u64::MAX)),
        refused("genesis: a miner twice", with(genesis, |g| g.registration.members = vec![key, key])),
        refused("genesis: no slots", with(genesis, |g| g.registration.slots = 0)),
        refused("genesis: more members than slots", with(genesis, |g| g.registration.slots = 1)),
        refused("genesis: members that nobody can replace", with(genesis, |g| g.registration.immunity_windows = 5_000)),
        refused("genesis: no way in for who holds nothing", with(genesis, |g| g.registration.hashcash.per_window = 0)),
        refused("genesis: a slot that nobody can pay for", with(genesis, |g| g.registration.hashcash.most = u64::MAX)),
        refused("genesis: a slot for nothing", with(genesis, |g| g.registration.burn.least = 0)),
        refused("dataset: an end token outside the vocabulary", with(dataset, |d| d.end_token = d.vocab_size)),
        refused("dataset: tokens of another width", with(dataset, |d| d.token_bytes = 4)),
        refused("dataset: everything held out", with(dataset, |d| d.held_out.every = 1)),
        refused("dataset: a shard longer than any", with(dataset, |d| d.training[0].tokens = d.shard_tokens + 1)),
        refused("dataset: a shard of no tokens", with(dataset, |d| d.validation[0].tokens = 0)),
        refused("contribution: no steps", with(contribution, |c| c.steps = 0)),
        refused("contribution: a delta of no bytes", with(contribution, |c| c.delta_bytes = 0)),
        refused("registration: another owner than the one that signed", with(asked, |r| r.certificate.owner = key)),
        refused("registration: another node key than the owner names", with(asked, |r| r.certificate.node = key)),
        refused("registration: another payment than the owner signed", {
            with(asked, |r| r.certificate.payment = Payment::Rotation)
        }),
        refused("registration: of another run", with(asked, |r| r.run = Hash::of(b"run").into())),
        refused("inbox: miners in another order", with(inbox, |i| i.contributions.reverse())),
        refused("inbox: more entries than any list may have", with(inbox, |i| i.contributions = many.collect())),
        refused("cut: no inboxes", with(cut, |c| c.inboxes.clear())),
        refused("score: a proof of evaluation with too many witnesses", {
            with(score, |s| {
                let losses = record.outcomes[0].losses.unwrap();
                let measured = Measurement { losses, claim: Hash::of(b""), witnesses: vec![0; 4097] };
                s.entries[0].evaluation = Evaluation::Measured(measured);
            })
        }),
        refused("genesis: nobody measures", with(genesis, |g| g.gauntlet.evaluators = 0)),
        refused("genesis: a target of no steps", with(genesis, |g| g.emission.target_steps = 0)),
        refused("genesis: a factor of pay that never moves", {
            with(genesis, |g| {
                g.gauntlet.weights =
                    WeightRule::MeasuredSteps { least_ppm: 500_000, most_ppm: 1_500_000, newest_ppm: 0 };
            })
        }),
        refused("body: a weight of zero", with(record, |w| w.weights = weights(&[0]))),
        refused("body: weights above the whole", with(record, |w| w.weights = weights(&[600_000, 400_001]))),
        refused("score: a refusal with control characters", {
            with(score, |s| s.entries[0].replay = Replay::Refused(Refusal::Malformed { error: "\u{1b}[2J".into() }))
        }),
        refused("score: contests out of order", with(score, |s| s.contests = contests(&[2, 1]))),
        refused("score: more contests than one may have", with(score, |s| s.contests = contests(&[1, 2, 3, 4, 5]))),
        refused("score: alike to nobody", with(score, |s| s.entries[0].nearest = None)),
        refused("score: nearest to itself", with(score, |s| s.entries[0].nearest = Some(s.entries[0].miner))),
        refused("score: nearer than the other is", with(score, |s| s.entries[0].overlap_ppm += 1)),
        refused("score: equal bodies that are not alike", with(score, |s| s.entries[0].body = s.entries[1].body)),
        refused("window: a first record with one before it", with(header, |h| h.previous = Some(Hash::of(b"").into()))),
        refused("body: no scores", with(record, |w| w.scores.clear())),
        refused("body: a mint twice", with(record, |w| w.mints.insert(1, w.mints[0]))),
        refused(
            "body: a challenge of its own window",
            with(record, |w| {
                let (window, since) = (w.window, w.window);
                let Outcome { miner, contribution, .. } = w.outcomes[0];
                w.challenges.push(Challenge { window, miner, contribution, since });
            }),
        ),
        refused("state: more steps than a run can have", with(state, |s| s.optimizer_steps = u64::MAX)),
        refused("checkpoint: no tensors", with(checkpoint, |c| c.tensors.clear())),
        refused("checkpoint: a tensor of no elements", with(checkpoint, |c| c.tensors[0].spec.shape = vec![4, 0])),
        refused("checkpoint: a tensor of three dimensions", with(checkpoint, |c| c.tensors[0].spec.shape = vec![2; 3])),
        refused("checkpoint: a tensor larger than memory", {
            with(checkpoint, |c| c.tensors[0].spec.shape = vec![u64::MAX, u64::MAX])
        }),
        refused("audit: an explanation of 1,025 bytes", {
            with(audit, |a| a.record_verdict = AuditVerdict::Mismatch { what: "a".repeat(1025) })
        }),
    ]
}
