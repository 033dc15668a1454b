//! A second reading of the examples, by a stock DAG-CBOR library that knows nothing of this program, and by the
//! tables of `manifests/README.md`. So the specification names every field, and names no other.

use std::collections::{BTreeMap, BTreeSet};

use ipld_core::ipld::Ipld;
use templar_manifest::{
    Admitted, AuditVerdict, Challenge, Contest, Contradiction, Contribution, ContributionId, Evaluation, Hash, Kind,
    LateVerdict, Measurement, MintKind, Offence, Outcome, Payment, PublicKey, Refusal, Refuted, Replay, ReplayProof,
    RopeScaling, ScoreId, SegmentShape, SlashCause, State, Statement, Verdict, VoteOn, VoteStep, WeightRule,
    WindowIndex,
};

use super::example;
use super::folder::{Folder, path};

/// The fields of a section's table: dotted path, and type as the second column says it.
fn documented(section: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path().join("README.md")).unwrap();
    let heading = format!("### {section}");
    let body = text.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.starts_with('#'));
    let rows = body.filter_map(|line| line.strip_prefix("| `"));
    let fields: BTreeMap<String, String> = rows
        .map(|row| {
            let (field, rest) = row.split_once('`').unwrap();
            let kind = rest.trim_start_matches([' ', '|']).split('|').next().unwrap().trim();
            (field.to_owned(), kind.to_owned())
        })
        .collect();
    assert!(!fields.is_empty(), "no table under {heading:?}");
    fields
}

/// The dotted paths of a value, without the contents of unions.
fn paths(value: &Ipld, at: &str, documented: &BTreeMap<String, String>, found: &mut BTreeSet<String>) {
    let is_union = documented.get(at).is_some_and(|kind| kind.starts_with("union"));
    match value {
        Ipld::Map(fields) if !is_union => {
            for (name, value) in fields {
                let inner = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                paths(value, &inner, documented, found);
            }
        }
        // An empty list does not show the fields of its elements.
        Ipld::List(values)
            if values.is_empty() && documented.keys().any(|path| path.starts_with(&format!("{at}[]"))) => {}
        Ipld::List(values) if values.iter().any(|value| matches!(value, Ipld::Map(_))) => {
            for value in values {
                paths(value, &format!("{at}[]"), documented, found);
            }
        }
        _ => {
            found.insert(at.to_owned());
        }
    }
}

/// Whether a value is of the type that the table gives.
fn fits(value: &Ipld, kind: &str) -> bool {
    match (value, kind) {
        (Ipld::Null, kind) => kind.ends_with("or null"),
        (Ipld::Integer(number), "u32") => u32::try_from(*number).is_ok(),
        (Ipld::Integer(number), "u64") => u64::try_from(*number).is_ok(),
        (Ipld::Bool(_), "bool") | (Ipld::String(_), "text") => true,
        (Ipld::Bytes(_), "bytes") => true,
        (Ipld::Bytes(bytes), "signature") => bytes.len() == 64,
        (Ipld::Bytes(bytes), kind) => bytes.len() == 32 && (kind.starts_with("hash") || kind.starts_with("key")),
        (Ipld::List(values), kind) => kind.strip_prefix("list of ").is_some_and(|inner| {
            values.iter().all(|value| fits(value, inner.strip_suffix('s').unwrap_or(inner)) || fits(value, inner))
        }),
        (Ipld::String(_), kind) => kind.starts_with("union"),
        (Ipld::Map(variant), kind) => kind.starts_with("union") && variant.len() == 1,
        _ => false,
    }
}

fn check_types(value: &Ipld, at: &str, documented: &BTreeMap<String, String>) {
    if let Some(kind) = documented.get(at)
        && !(kind == "map or null" && matches!(value, Ipld::Map(_)))
    {
        assert!(fits(value, kind), "{at} is documented as {kind}: {value:?}");
        return;
    }
    match value {
        Ipld::Map(fields) => {
            for (name, value) in fields {
                let inner = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                check_types(value, &inner, documented);
            }
        }
        Ipld::List(values) => values.iter().for_each(|value| check_types(value, &format!("{at}[]"), documented)),
        _ => panic!("{at} is not documented"),
    }
}

#[test]
fn a_stock_library_reads_and_writes_the_same_bytes() {
    for (name, bytes) in Folder::read().files.iter().filter(|(name, _)| name.ends_with(".cbor")) {
        let value: Ipld = serde_ipld_dagcbor::from_slice(bytes).unwrap();
        let Ipld::Map(fields) = &value else { panic!("{name} is not a map") };
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["body", "kind", "version"]);
        assert_eq!(fields["version"], Ipld::Integer(0));
        assert_eq!(&serde_ipld_dagcbor::to_vec(&value).unwrap(), bytes, "{name}");
    }
}

#[test]
fn the_specification_names_every_field_and_its_type() {
    let folder = Folder::read();
    for kind in Kind::ALL {
        let documented = documented(kind.name());
        let mut found = BTreeSet::new();
        for (_, id) in folder.payloads().into_iter().filter(|(other, _)| *other == kind) {
            let value: Ipld = serde_ipld_dagcbor::from_slice(&folder.files[&format!("{kind}-{id}.cbor")]).unwrap();
            let Ipld::Map(fields) = &value else { unreachable!() };
            paths(&fields["body"], "", &documented, &mut found);
            check_types(&fields["body"], "", &documented);
        }
        if kind == Kind::Score {
            // The examples have none, because their verdicts come before the record.
            let proof = Some(ReplayProof { claim: Hash::default(), witnesses: vec![7] });
            let (window, miner, replay) = (WindowIndex(0), PublicKey::from_bytes([0; 32]), Replay::Match);
            let contribution = ContributionId::default();
            for proof in [proof, None] {
                let verdict = seen(&LateVerdict { window, miner, contribution, replay: replay.clone(), proof });
                paths(&verdict, "verdicts[]", &documented, &mut found);
                check_types(&verdict, "verdicts[]", &documented);
            }
        }
        if kind == Kind::Score {
            let score = &example().closed.scores[0];
            let (signer, window) = (score.signer(), score.payload().window);
            let evidence = Contradiction { signer, window, first: score.envelope(), second: score.envelope() };
            paths(&seen(&evidence), "evidence[]", &documented, &mut found);
            check_types(&seen(&evidence), "evidence[]", &documented);
            // Nobody contests a true measurement.
            let losses = example().closed.window.body.outcomes[0].losses;
            for found_losses in [losses, None] {
                let (miner, contribution) = (signer, ContributionId::default());
                let contest = seen(&Contest { miner, contribution, found: found_losses });
                paths(&contest, "contests[]", &documented, &mut found);
                check_types(&contest, "contests[]", &documented);
            }
        }
        if kind == Kind::Body {
            // As above, because nothing is challenged before the record.
            let (window, miner, since) = (WindowIndex(0), PublicKey::from_bytes([0; 32]), WindowIndex(1));
            let challenge = Challenge { window, miner, contribution: ContributionId::default(), since };
            paths(&seen(&challenge), "challenges[]", &documented, &mut found);
            check_types(&seen(&challenge), "challenges[]", &documented);
            // Every score of the examples is true.
            let (validator, miner, score) = (miner, miner, ScoreId::default());
            let refuted = Refuted { validator, score, window, miner, statement: Statement::Replay };
            paths(&seen(&refuted), "refuted[]", &documented, &mut found);
            check_types(&seen(&refuted), "refuted[]", &documented);
            // In the examples every contribution was measured.
            let outcome = Outcome { losses: None, ..example().closed.window.body.outcomes[0].clone() };
            paths(&seen(&outcome), "outcomes[]", &documented, &mut found);
            check_types(&seen(&outcome), "outcomes[]", &documented);
        }
        assert_eq!(
            found,
            documented.into_keys().collect(),
            "fields of a {kind} manifest, left found, right documented"
        );
    }
}

/// The context strings that separate the uses of the hash are part of the format.
#[test]
fn the_specification_names_every_context() {
    let text = std::fs::read_to_string(path().join("README.md")).unwrap();
    let sources = [
        include_str!("../../crates/templar-manifest/src/chain.rs"),
        include_str!("../../crates/templar-manifest/src/proof.rs"),
        include_str!("../../crates/templar-protocol/src/entry.rs"),
        include_str!("../../crates/templar-manifest/src/kinds/registration.rs"),
        include_str!("../../crates/templar-manifest/src/tree/bits.rs"),
        include_str!("../../crates/templar-protocol/src/run/replay.rs"),
        include_str!("../../crates/templar-protocol/src/run.rs"),
        include_str!("../../crates/templar-protocol/src/run/assignment.rs"),
        include_str!("../../crates/templar-protocol/src/run/close.rs"),
        include_str!("../../crates/templar-protocol/src/run/judge.rs"),
    ];
    let declared = sources.iter().flat_map(|source| source.lines()).filter(|line| line.starts_with("const "));
    let contexts: Vec<&str> =
        declared.filter(|line| line.contains("_CONTEXT: &str")).filter_map(|line| line.split('"').nth(1)).collect();
    assert_eq!(contexts.len(), 18);
    for context in contexts {
        assert!(text.contains(&format!("\"{context}\"")), "{context}");
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().unwrap()
}

/// Reads traces and deltas by the offsets of the specification. Their headers repeat what the contributions
/// name, and the last leaf lists the blobs of the state that the miner leaves.
#[test]
fn blobs_are_laid_out_as_specified() {
    let folder = Folder::read();
    let contributions = folder.payloads().into_iter().filter(|(kind, _)| *kind == Kind::Contribution);
    for contribution in contributions.map(|(_, id)| folder.get::<Contribution>(&id)) {
        let trace = &folder.files[&format!("trace-{}.bin", contribution.trace)];
        let delta = &folder.files[&format!("delta-{}.bin", contribution.delta)];
        assert_eq!((field(trace, 0), field(delta, 0)), (*b"tplrtrc0", *b"TPLDELTA"));
        for (bytes, run, miner) in [(trace, 8, 48), (delta, 10, 42)] {
            assert_eq!(field(bytes, run), *contribution.run.hash().as_bytes());
            assert_eq!(field(bytes, miner), *contribution.miner.as_bytes());
        }
        // All numbers in the header of this delta are below 128 and take one byte.
        assert_eq!(u64::from_le_bytes(field(trace, 40)), contribution.window.0);
        assert_eq!(u64::from(delta[74]), contribution.window.0);
        assert_eq!(u32::from_le_bytes(field(trace, 80)), contribution.steps);
        let state: State = folder.get(&contribution.state_out.hash());
        let tensors = state.tensors.len();
        assert_eq!(u32::from_le_bytes(field(trace, 84)) as usize, tensors);
        assert_eq!(usize::from(delta[77]), tensors);
        let leaf = |k: usize| 88 + k * (8 + 32 * tensors);
        let last = contribution.steps as usize + 1;
        assert_eq!(trace.len(), leaf(last + 1));
        for k in [0, last] {
            assert_eq!(u64::from_le_bytes(field(trace, leaf(k))), 0);
        }
        let loss = f64::from_bits(u64::from_le_bytes(field(trace, leaf(last - 1))));
        assert_eq!((loss * 1e9).round() as u64, contribution.loss_nanonats);
        for (index, tensor) in state.tensors.iter().enumerate() {
            assert_eq!(field(trace, leaf(last) + 8 + 32 * index), *tensor.blob.hash().as_bytes());
        }
    }
}

/// A value as the stock library sees it.
fn seen<T: serde::Serialize>(value: &T) -> Ipld {
    serde_ipld_dagcbor::from_slice(&serde_ipld_dagcbor::to_vec(value).unwrap()).unwrap()
}

#[test]
fn the_specification_names_every_variant() {
    let text = || "text".to_owned();
    let refusals = [
        Refusal::Withheld,
        Refusal::Malformed { error: text() },
        Refusal::WrongClaim { field: text() },
        Refusal::Mismatch { step: 1, tensor: text() },
        Refusal::NotReplayed,
    ];
    let mut variants: Vec<(&str, Ipld)> = refusals.iter().map(|refusal| ("Refusal", seen(refusal))).collect();
    let refused = Replay::Refused(Refusal::Withheld);
    variants.extend([Replay::NotDrawn, Replay::Match, refused].iter().map(|replay| ("Replay", seen(replay))));
    let losses = example().closed.window.body.outcomes.iter().find_map(|outcome| outcome.losses).unwrap();
    let measured = Evaluation::Measured(Measurement { losses, claim: Hash::default(), witnesses: Vec::new() });
    variants.extend([Evaluation::NotDrawn, Evaluation::Untried, measured].iter().map(|one| ("Evaluation", seen(one))));
    let refused = Verdict::Refused(Refusal::Withheld);
    variants.extend(
        [Verdict::Aggregated, Verdict::Reserve, Verdict::Excluded, refused]
            .iter()
            .map(|verdict| ("Verdict", seen(verdict))),
    );
    variants.extend(Offence::ALL.iter().map(|offence| ("Offence", seen(offence))));
    let power = WeightRule::ScorePower { exponent: 2 };
    let rules = [WeightRule::measured_steps(), WeightRule::rank_ramp(), power, WeightRule::ProvenSteps];
    variants.extend(rules.iter().map(|rule| ("WeightRule", seen(rule))));
    let audits =
        [AuditVerdict::Match, AuditVerdict::Mismatch { what: text() }, AuditVerdict::Unavailable { what: text() }];
    variants.extend(audits.iter().map(|verdict| ("AuditVerdict", seen(verdict))));
    let kinds = [MintKind::Miner, MintKind::Evaluations, MintKind::Replays, MintKind::Treasury];
    variants.extend(kinds.iter().map(|kind| ("MintKind", seen(kind))));
    use SlashCause::{Absence, Contradiction as Contradicted, Expulsion, Falsehood, Mismatch, Unanswered};
    let causes = [Mismatch, Unanswered, Expulsion, Absence, Contradicted, Falsehood];
    variants.extend(causes.iter().map(|cause| ("SlashCause", seen(cause))));
    variants.extend(
        [Statement::Replay, Statement::Evaluation, Statement::Contest].iter().map(|one| ("Statement", seen(one))),
    );
    variants.extend([VoteOn::Cut, VoteOn::Reveals, VoteOn::Window].iter().map(|on| ("VoteOn", seen(on))));
    variants.extend([VoteStep::Prevote, VoteStep::Precommit].iter().map(|step| ("VoteStep", seen(step))));
    variants.extend([SegmentShape::Linear, SegmentShape::Cosine].iter().map(|shape| ("SegmentShape", seen(shape))));
    let llama3 =
        RopeScaling::Llama3 { factor_ppm: 1, low_freq_factor_ppm: 1, high_freq_factor_ppm: 1, original_positions: 1 };
    let linear = RopeScaling::Linear { factor_ppm: 1 };
    variants.extend([linear, llama3].iter().map(|scaling| ("RopeScaling", seen(scaling))));
    let payments = [Payment::Hashcash { nonce: 0 }, Payment::Burn { amount_micros: 1 }, Payment::Rotation];
    variants.extend(payments.iter().map(|payment| ("Payment", seen(payment))));
    let joined = Admitted::Joined { slot: 0, replaced: None };
    let admitted = [joined, Admitted::Rotated, Admitted::Crowded, Admitted::NoSlot, Admitted::NodeTaken];
    variants.extend(admitted.iter().map(|verdict| ("Admitted", seen(verdict))));
    let mut expected = BTreeMap::<&str, BTreeSet<String>>::new();
    for (union, value) in variants {
        let spelled = match value {
            Ipld::String(name) => format!("\"{name}\""),
            Ipld::Map(fields) => {
                let (name, inner) = fields.into_iter().next().unwrap();
                match inner {
                    Ipld::Map(inner) => {
                        format!("{{\"{name}\": {{{}}}}}", inner.into_keys().collect::<Vec<_>>().join(", "))
                    }
                    _ => format!("{{\"{name}\": Refusal}}"),
                }
            }
            other => panic!("{union} is spelled {other:?}"),
        };
        expected.entry(union).or_default().insert(spelled);
    }
    let initial = [r#"{"seed": hash}"#, r#"{"tensors": list of hashes of blobs}"#];
    expected.insert("Initial", initial.map(str::to_owned).into());
    for (union, variants) in expected {
        let documented: BTreeSet<String> = documented(union).into_keys().collect();
        assert_eq!(documented, variants, "{union}, left documented, right in the program");
    }
}
