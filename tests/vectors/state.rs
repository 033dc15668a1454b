//! A second implementation of the state's tree: every entry after the example's window, from the text of
//! `manifests/README.md`, and the roots in the header.

use std::collections::BTreeMap;

use templar_manifest::*;

use super::second::{Examples, examples, hash};
use super::standings::{assess, value};

/// The entries of a tree.
type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// The specification's bits of a key.
fn bit(key: &[u8], number: u32) -> u8 {
    let (byte, place) = (number as usize / 9, number % 9);
    match key.get(byte) {
        None => 0,
        Some(_) if place == 0 => 1,
        Some(byte) => byte >> (8 - place) & 1,
    }
}

/// The specification's root of some entries, sorted by key.
fn root(entries: &[(&Vec<u8>, &Vec<u8>)]) -> Hash {
    match entries {
        [] => Hash::default(),
        [(key, value)] => hash("templar/1 tree leaf", &[&(key.len() as u32).to_le_bytes(), key, value]),
        [(first, _), .., (last, _)] => {
            let number = (0..).find(|number| bit(first, *number) != bit(last, *number)).unwrap();
            let (left, right): (Vec<_>, Vec<_>) = entries.iter().partition(|(key, _)| bit(key, number) == 0);
            let sides = [root(&left), root(&right)];
            hash("templar/1 tree fork", &[&number.to_le_bytes(), sides[0].as_bytes(), sides[1].as_bytes()])
        }
    }
}

fn root_of(entries: &Entries) -> Hash {
    root(&entries.iter().collect::<Vec<_>>())
}

/// A key of the state: name, zero byte, parts.
fn key(name: &str, parts: &[&[u8]]) -> Vec<u8> {
    [name.as_bytes(), &[0], &parts.concat()].concat()
}

/// Numbers of a value.
fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The price after a window in which so many joined.
fn price(rule: &PriceRule, joined: usize) -> u64 {
    let step = |price: u64, ppm: u32| {
        let moved = u128::from(price) * u128::from(ppm) / 1_000_000;
        (moved as u64).clamp(rule.least, rule.most)
    };
    let risen = (0..joined).fold(rule.first, |price, _| step(price, rule.rise_ppm));
    step(risen, rule.decay_ppm)
}

/// The members of window 1. The newcomer has the lowest free slot.
fn members(examples: &Examples, entries: &mut Entries) {
    let merit = |owner: &PublicKey| {
        let weight = examples.record.weights.iter().find(|weight| weight.miner == *owner);
        weight.map_or(0, |weight| u64::from(weight.weight_ppm) * 1_000 / examples.genesis.registration.merit_windows)
    };
    let accepted = |owner: &PublicKey| {
        let outcome = examples.record.outcomes.iter().find(|outcome| outcome.miner == *owner);
        outcome.is_some_and(|outcome| !matches!(outcome.verdict, Verdict::Refused(_)))
    };
    let mut member = |slot: usize, owner: &PublicKey, node: &PublicKey, numbers_of: [u64; 4]| {
        let value = [&owner.as_bytes()[..], node.as_bytes(), &numbers(&numbers_of)].concat();
        entries.insert(key("member", &[&(slot as u64).to_be_bytes()]), value);
    };
    let first = examples.genesis.miners();
    for (slot, owner) in first.iter().enumerate() {
        member(slot, owner, owner, [0, 0, merit(owner), u64::from(accepted(owner))]);
    }
    let [asked] = &examples.registrations[..] else { panic!("one registration") };
    let Certificate { owner, node, anchor, .. } = &asked.certificate;
    member(first.len(), owner, node, [1, anchor.0, 0, 1]);
}

/// Accounts, pay that has not vested, and the supply.
fn ledger(examples: &Examples, entries: &mut Entries) {
    let mut grants = BTreeMap::<PublicKey, u64>::new();
    let (mut minted, mut treasury) = (0, 0);
    for mint in &examples.record.mints {
        minted += mint.amount_micros;
        match mint.kind {
            MintKind::Treasury => treasury += mint.amount_micros,
            _ => *grants.entry(mint.account).or_default() += mint.amount_micros,
        }
    }
    for (account, amount) in grants {
        entries.insert(key("account", &[account.as_bytes()]), numbers(&[0]));
        entries.insert(key("grant", &[account.as_bytes(), &0u64.to_be_bytes()]), numbers(&[amount]));
    }
    entries.insert(key("supply", &[]), numbers(&[minted, 0, treasury]));
}

/// What the contributions and scores of the window leave: standings, parents, strikes, bodies.
fn miners(examples: &Examples, entries: &mut Entries) {
    let (genesis, record) = (&examples.genesis, &examples.record);
    let half = genesis.validators.iter().map(|validator| validator.stake).sum::<u64>();
    for (miner, standing) in assess(genesis, &examples.scores, record).0 {
        entries.insert(key("standing", &[miner.as_bytes()]), value(&standing));
    }
    for (contribution, outcome) in examples.contributions.iter().zip(&record.outcomes) {
        let miner = contribution.miner;
        let accepted = !matches!(outcome.verdict, Verdict::Refused(_));
        if accepted {
            let id = payload::id_of(contribution);
            let value = [&id.as_bytes()[..], contribution.state_out.hash().as_bytes()].concat();
            entries.insert(key("parent", &[miner.as_bytes()]), value);
        }
        if matches!(outcome.verdict, Verdict::Refused(Refusal::Mismatch { .. })) {
            entries.insert(key("strike", &[miner.as_bytes()]), numbers(&[0]));
        }
        let said = |score: &Score| score.entries.iter().find(|entry| entry.miner == miner).and_then(|entry| entry.body);
        for body in examples.scores.iter().filter_map(said) {
            let agree = examples.scores.iter().filter(|score| said(score) == Some(body));
            let stake: u64 = agree.map(|score| genesis.validator(&score.validator).unwrap().stake).sum();
            if stake * 2 > half && genesis.gauntlet.copy_memory_windows > 0 {
                let value = [&numbers(&[0])[..], miner.as_bytes()].concat();
                entries.insert(key("delta-body", &[body.as_bytes()]), value);
            }
        }
    }
}

#[test]
fn the_roots_in_the_header_are_what_the_text_says() {
    let examples = examples();
    let (genesis, record) = (&examples.genesis, &examples.record);
    let mut entries = Entries::new();
    ledger(&examples, &mut entries);
    members(&examples, &mut entries);
    miners(&examples, &mut entries);
    let before = hash("templar/1 seed before the first window", &[&examples.run()]);
    let work = price(&genesis.registration.hashcash, 1);
    entries.insert(key("anchor", &[&0u64.to_be_bytes()]), before.as_bytes().to_vec());
    entries.insert(key("anchor", &[&1u64.to_be_bytes()]), record.seed.as_bytes().to_vec());
    entries.insert(key("prices", &[]), numbers(&[work, price(&genesis.registration.burn, 0)]));
    for reveal in &record.reveals {
        let value = [&numbers(&[0])[..], reveal.value.as_bytes()].concat();
        entries.insert(key("chain", &[reveal.validator.as_bytes()]), value);
    }
    let taken =
        genesis.miners().len() as u64 * u64::from(genesis.inner.steps) * u64::from(genesis.inner.batch_sequences);
    let draw = [&before.as_bytes()[..], &numbers(&[taken])].concat();
    entries.insert(key("draw", &[&0u64.to_be_bytes()]), draw);
    entries.insert(key("pages", &[]), numbers(&[examples.pages, 0, taken]));
    let zero = examples.contributions[0].state_in;
    let told = [&zero.hash().as_bytes()[..], &numbers(&[examples.dataset.training_tokens()])].concat();
    entries.insert(key("run", &[]), told);
    entries.insert(key("seed", &[]), record.seed.as_bytes().to_vec());
    assert_eq!(root_of(&entries), examples.header.state_root);

    let validator = |spec: &ValidatorSpec| {
        let value = [&numbers(&[spec.stake])[..], spec.chain_anchor.as_bytes()].concat();
        (key("validator", &[spec.key.as_bytes()]), value)
    };
    let validators: Entries = genesis.validators.iter().map(validator).collect();
    assert_eq!(root_of(&validators), examples.header.validators_root);
    assert_eq!(payload::id_of(record), examples.header.body_root.hash());
}
