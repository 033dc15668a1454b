//! Joining without anybody's leave: a newcomer that genesis does not know trains and is paid, and who does not
//! pay, or pays with what is not its own, is refused by name.

use std::sync::Arc;

use templar_manifest::*;

use super::fixture::*;
use crate::*;

fn stranger(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

const WORK: Payment = Payment::Hashcash { nonce: 0 };

fn signed(registration: &Registration, node: &SecretKey) -> Entry {
    Entry::Envelope(Signed::sign(registration.clone(), node).envelope())
}

fn signed_by(contribution: &Contribution, node: &SecretKey) -> Entry {
    Entry::Envelope(Signed::sign(contribution.clone(), node).envelope())
}

/// Gives an entry to a node that must refuse it and stay as it is.
fn refused(node: &Node, entry: &Entry) -> RegistrationError {
    let mut after = node.clone();
    let reject = after.step(Input::Entry(entry.clone())).unwrap_err();
    assert_eq!(&after, node, "{reject} changed the state");
    match reject {
        Reject::Registration(error) => error,
        other => panic!("{other}"),
    }
}

/// A run with two first members, a third key that nobody knows, and room for it.
fn cluster(windows: u64, slots: u32) -> Cluster {
    cluster_that_vests(windows, slots, 4)
}

fn cluster_that_vests(windows: u64, slots: u32, vesting_windows: u64) -> Cluster {
    let (validators, miners) = (keys("validator", 2), keys("miner", 3));
    let stakes: Vec<(&SecretKey, u64)> = validators.iter().map(|key| (key, 1)).collect();
    let mut start = genesis(&stakes, &miners[..2], windows);
    start.registration.slots = slots;
    start.emission.vesting_windows = vesting_windows;
    let mut cluster = Cluster::of(start, validators, miners);
    cluster.cheat = nobody();
    cluster
}

/// The member that nobody knows.
const NEWCOMER: usize = 4;

fn is_over(cluster: &Cluster) -> bool {
    let is_over = cluster.members.iter().all(|member| member.node.is_over());
    if is_over {
        super::certified::fold_through_copies(&cluster.members[0].node);
    }
    is_over
}

#[test]
fn whoever_pays_with_work_trains_from_the_next_window_on_and_is_paid() {
    let mut cluster = cluster(3, 3);
    let newcomer = cluster.miners[2].clone();
    let registration = registration_of(cluster.members[0].node.state(), &newcomer, &newcomer, WORK);
    assert_eq!(cluster.members[NEWCOMER].node.contributor(), None);
    cluster.deliver(NEWCOMER, Input::Entry(signed(&registration, &newcomer)));
    // Everybody has heard of it before anybody's inbox is full.
    cluster.run(&mut Order(1), |_| false);
    cluster.wake();
    cluster.run(&mut Order(2), is_over);
    let closed = cluster.members[0].node.closed();
    let owner = newcomer.public();
    let joined = Admitted::Joined { slot: 2, replaced: None };
    assert_eq!(closed[0].window.body.admissions.len(), 1);
    assert_eq!(
        (closed[0].window.body.admissions[0].owner, closed[0].window.body.admissions[0].verdict),
        (owner, joined)
    );
    assert!(closed[0].contributions.iter().all(|signed| signed.payload().miner != owner));
    for closed in &closed[1..] {
        assert_eq!(closed.contributions.len(), 3);
        assert!(closed.window.body.mints.iter().any(|mint| mint.account == owner && mint.kind == MintKind::Miner));
    }
    // Either validator may have published a certified set first, so the records are compared and not who signed them.
    let records = |closed: &[ClosedWindow]| closed.iter().map(|closed| closed.record).collect::<Vec<_>>();
    for member in &cluster.members {
        assert_eq!(records(member.node.closed()), records(closed));
    }
    let before = cluster.members[0].node.state_at(WindowIndex(1)).unwrap();
    let mut pages: Vec<u64> = before.assignment().slots().concat();
    assert_eq!(before.pages_of(&owner).unwrap(), before.assignment().slot(2).unwrap());
    pages.sort_unstable();
    pages.dedup();
    assert_eq!(pages.len(), 3 * 6, "every member has pages of its own");
}

#[test]
fn what_a_restarted_node_folds_is_what_it_was() {
    let mut cluster = cluster(3, 3);
    let newcomer = cluster.miners[2].clone();
    let registration = registration_of(cluster.members[0].node.state(), &newcomer, &newcomer, WORK);
    cluster.deliver(NEWCOMER, Input::Entry(signed(&registration, &newcomer)));
    cluster.wake();
    let mut order = Order(3);
    cluster.run(&mut order, |cluster| cluster.members[1].node.cut().is_some());
    for member in 0..5 {
        cluster.restart(member);
    }
    cluster.run(&mut order, |cluster| cluster.members[NEWCOMER].node.closed().len() == 2);
    cluster.restart(NEWCOMER);
    cluster.run(&mut order, is_over);
    assert!(is_over(&cluster));
}

#[test]
fn a_validator_burns_what_it_earned_for_a_slot() {
    // Pay vests at once here, so it can be burnt at once.
    let mut cluster = cluster_that_vests(2, 3, 0);
    cluster.wake();
    let mut order = Order(4);
    cluster.run(&mut order, |cluster| cluster.members.iter().all(|member| member.node.closed().len() == 1));
    let node = &cluster.members[0].node;
    // The draw of replays decides which of the validators has earned something in window 0.
    let has_earned = |key: &&SecretKey| node.state().ledger().accounts().contains_key(&key.public());
    let validator = cluster.validators.iter().find(has_earned).expect("somebody replayed").clone();
    let price = node.state().members().burn_micros();
    let free = node.state().ledger().accounts()[&validator.public()].free_micros();
    let burn = |amount_micros| {
        let registration = registration_of(node.state(), &validator, &validator, Payment::Burn { amount_micros });
        signed(&registration, &validator)
    };
    assert_eq!(refused(node, &burn(price - 1)), RegistrationError::Price { offered: price - 1, price });
    let owner = validator.public().short();
    assert_eq!(refused(node, &burn(free + 1)), RegistrationError::Balance { owner, free, offered: free + 1 });
    let broke = stranger(90);
    let registration = registration_of(node.state(), &broke, &broke, Payment::Burn { amount_micros: price });
    let error = refused(node, &signed(&registration, &broke));
    assert!(matches!(error, RegistrationError::Balance { free: 0, .. }));
    let entry = burn(price + 5);
    cluster.deliver(0, Input::Entry(entry));
    let burnt = cluster.members[0].node.state().ledger().burnt_micros();
    cluster.run(&mut order, is_over);
    let ledger = cluster.members[NEWCOMER].node.state().ledger();
    let closed = &cluster.members[NEWCOMER].node.closed()[1];
    let own = closed.window.body.mints.iter().filter(|mint| mint.account == validator.public());
    let minted: u64 = own.map(|mint| mint.amount_micros).sum();
    assert_eq!(closed.window.body.admissions[0].verdict, Admitted::Joined { slot: 2, replaced: None });
    assert_eq!(ledger.burnt_micros(), burnt + price + 5);
    let account = &ledger.accounts()[&validator.public()];
    assert_eq!(account.free_micros(), free + minted - price - 5);
}

#[test]
fn who_is_replaced_keeps_its_account_and_begins_anew() {
    let mut cluster = cluster(5, 2);
    let newcomer = cluster.miners[2].clone();
    cluster.wake();
    let mut order = Order(5);
    cluster.run(&mut order, |cluster| cluster.members.iter().all(|member| member.node.closed().len() >= 2));
    let window = cluster.members[0].node.state().window();
    // A second newcomer is never heard of again.
    for key in [&newcomer, &stranger(92)] {
        let registration = registration_of(cluster.members[0].node.state(), key, key, WORK);
        for member in [0, 1, NEWCOMER] {
            cluster.deliver(member, Input::Entry(signed(&registration, key)));
        }
    }
    while !is_over(&cluster) {
        cluster.run(&mut order, is_over);
        cluster.expire();
    }
    let node = &cluster.members[0].node;
    let closed = &node.closed()[window.0 as usize];
    let gone: Vec<PublicKey> = closed
        .window
        .body
        .admissions
        .iter()
        .map(|admission| match admission.verdict {
            Admitted::Joined { replaced: Some(replaced), .. } => replaced,
            other => panic!("{other:?}"),
        })
        .collect();
    let accounts = node.state().ledger().accounts();
    let replaced = *gone.iter().find(|miner| accounts.contains_key(miner)).expect("one of two was paid");
    let (before, after) = (node.state_at(window).unwrap(), node.state_at(window.next()).unwrap());
    assert!(before.parent(&replaced).is_some() && after.parent(&replaced).is_none());
    assert_ne!(before.standing(&replaced), Standing::NEW);
    assert_eq!(after.standing(&replaced), Standing::NEW);
    assert_eq!(after.check_claims(&contribution(&after, &replaced, 0)), Err("miner"));
    let vesting = after.ledger().accounts()[&replaced].vesting_micros();
    let later = node.state().ledger().accounts()[&replaced].clone();
    assert!(vesting > 0 && later.vesting_micros() < vesting, "its pay goes on vesting");
    assert_eq!(node.state().ledger().burnt_micros(), 0);
}

#[test]
fn a_rotation_hands_the_slot_to_another_node_key() {
    let mut cluster = cluster(4, 2);
    let (owner, node) = (cluster.miners[0].clone(), cluster.miners[2].clone());
    let state = cluster.members[0].node.state().clone();
    let rotation = |state: &RunState| registration_of(state, &owner, &node, Payment::Rotation);
    let first = refused(&cluster.members[0].node, &signed(&rotation(&state), &node));
    assert_eq!(first, RegistrationError::Older { owner: owner.public().short(), anchor: WindowIndex(0) });
    cluster.wake();
    let mut order = Order(6);
    cluster.run(&mut order, |cluster| cluster.members.iter().all(|member| member.node.closed().len() == 1));
    let state = cluster.members[0].node.state().clone();
    cluster.deliver(NEWCOMER, Input::Entry(signed(&rotation(&state), &node)));
    cluster.run(&mut order, is_over);
    assert!(is_over(&cluster), "stalled");
    let closed = cluster.members[0].node.closed();
    assert_eq!(closed[1].window.body.admissions[0].verdict, Admitted::Rotated);
    let signers: Vec<_> = closed
        .iter()
        .map(|closed| {
            let of_owner = |signed: &&Signed<Contribution>| signed.payload().miner == owner.public();
            closed.contributions.iter().find(of_owner).unwrap().signer()
        })
        .collect();
    assert_eq!(signers, [owner.public(), owner.public(), node.public(), node.public()]);
    // The old key has lost its part, and its own certificate does not bring it back.
    let last = cluster.members[0].node.state_at(WindowIndex(2)).unwrap();
    let node_at = Node::new(last.clone(), None);
    let claimed = contribution(&last, &owner.public(), 9);
    let entry = Entry::Envelope(Signed::sign(claimed, &owner).envelope());
    assert!(matches!(node_at.clone().step(Input::Entry(entry)), Err(Reject::NotRegistered(_))));
    // A second statement of the new key contradicts the first, and that is noticed.
    let mut crowded = node_at.clone();
    let said = |nonce| signed_by(&contribution(&last, &owner.public(), nonce), &node);
    crowded.step(Input::Entry(said(1))).unwrap();
    let second = crowded.step(Input::Entry(said(2))).unwrap();
    assert!(second.iter().any(|output| matches!(output, Output::Equivocation { .. })), "{second:?}");
    let mut older = registration_of(&last, &owner, &owner, Payment::Rotation);
    older.certificate.anchor = WindowIndex(1);
    older.owner_signature = older.certificate.sign(last.run(), &owner);
    let error = refused(&node_at, &signed(&older, &owner));
    assert_eq!(error, RegistrationError::Older { owner: owner.public().short(), anchor: WindowIndex(1) });
}

#[test]
fn who_does_not_pay_is_refused_by_name() {
    let mut cluster = cluster(4, 3);
    let (member, newcomer, other) = (cluster.miners[0].clone(), cluster.miners[2].clone(), stranger(91));
    let node = cluster.members[0].node.clone();
    let state = node.state();
    let short = |key: &SecretKey| key.public().short();
    let honest = registration_of(state, &newcomer, &newcomer, WORK);
    let with = |change: &dyn Fn(&mut Certificate)| {
        let mut registration = honest.clone();
        change(&mut registration.certificate);
        registration.owner_signature = registration.certificate.sign(state.run(), &newcomer);
        signed(&registration, &newcomer)
    };

    let is_stale = |found: &RegistrationError, of: &SecretKey| matches!(found, RegistrationError::StalePrice { owner, hashes: 16, window: WindowIndex(0), .. } if *owner == short(of));
    let hasher = WorkHasher::new(state.run(), WindowIndex(0), &state.seed(), &newcomer.public(), &newcomer.public());
    let lazy = (0..).find(|nonce| hasher.digest(*nonce) > largest_digest(16)).unwrap();
    assert!(is_stale(&refused(&node, &with(&|c| c.payment = Payment::Hashcash { nonce: lazy })), &newcomer));
    // Work for another run, whose seed is another, is worth nothing here.
    let foreign = {
        let mut genesis = Genesis::clone(state.genesis());
        genesis.windows += 1;
        registration_of(&crate::tests::fixture::state(genesis), &newcomer, &newcomer, WORK)
    };
    assert_ne!(foreign.certificate, honest.certificate);
    assert!(matches!(node.clone().step(Input::Entry(signed(&foreign, &newcomer))), Err(Reject::OtherRun)));
    let Payment::Hashcash { nonce } = foreign.certificate.payment else { unreachable!() };
    assert!(is_stale(&refused(&node, &with(&|c| c.payment = Payment::Hashcash { nonce })), &newcomer));

    let taken = registration_of(state, &newcomer, &member, WORK);
    assert_eq!(refused(&node, &signed(&taken, &member)), RegistrationError::NodeTaken(short(&member)));
    let again = registration_of(state, &member, &other, WORK);
    assert_eq!(refused(&node, &signed(&again, &other)), RegistrationError::Registered(short(&member)));
    assert_eq!(
        refused(&node, &with(&|c| c.payment = Payment::Rotation)),
        RegistrationError::NotAMember(short(&newcomer))
    );
    // Nobody is given a node key that did not sign, and nobody registers for an owner that did not.
    let stolen = signed(&registration_of(state, &newcomer, &other, WORK), &newcomer);
    let reject = node.clone().step(Input::Entry(stolen)).unwrap_err();
    assert!(
        matches!(reject, Reject::Envelope(EnvelopeError::WrongSigner { kind: Kind::Registration, .. })),
        "{reject}"
    );
    let mut unsigned = honest.clone();
    unsigned.owner_signature = unsigned.certificate.sign(state.run(), &other);
    let reject = node.clone().step(Input::Entry(signed(&unsigned, &newcomer))).unwrap_err();
    assert!(matches!(reject, Reject::Envelope(EnvelopeError::Decode(PayloadError::Rule { .. }))), "{reject}");

    // One in a window is enough, unless a validator had the other first.
    let mut heard = node.clone();
    heard.step(Input::Entry(signed(&honest, &newcomer))).unwrap();
    let second = with(&|c| {
        c.payment =
            Payment::Hashcash { nonce: (1 << 32..).find(|nonce| hasher.digest(*nonce) <= largest_digest(16)).unwrap() }
    });
    assert_eq!(refused(&heard, &second), RegistrationError::Second(short(&newcomer)));
    let Entry::Envelope(envelope) = &second else { unreachable!() };
    let named = CutRegistration { owner: newcomer.public(), registration: envelope.id().into() };
    let validator = cluster.validators[1].clone();
    let inbox = Inbox {
        run: state.run(),
        window: state.window(),
        validator: validator.public(),
        contributions: vec![],
        registrations: vec![named],
    };
    heard.step(Input::Entry(Entry::Envelope(Signed::sign(inbox, &validator).envelope()))).unwrap();
    heard.step(Input::Entry(second)).unwrap();
    assert_eq!(heard.registrations().count(), 2);

    // A certificate holds for three windows from its anchor on.
    cluster.wake();
    let mut order = Order(7);
    for window in 1..=3 {
        cluster.run(&mut order, |cluster| cluster.members.iter().all(|member| member.node.closed().len() == window));
        let node = &cluster.members[0].node;
        let late = Registration { window: node.state().window(), ..honest.clone() };
        if window < 3 {
            assert_eq!(node.state().check_registration(&late), Ok(()), "{window}");
        } else {
            let error = RegistrationError::Stale { anchor: WindowIndex(0), window: WindowIndex(3) };
            assert_eq!(refused(node, &signed(&late, &newcomer)), error);
        }
    }
    // And one of a window that is closed is of no use any more, which is no error.
    let outputs = cluster.members[0].node.clone().step(Input::Entry(signed(&honest, &newcomer)));
    assert_eq!(outputs, Ok(Vec::new()));
}

#[test]
fn a_registration_after_the_cut_is_out_of_time() {
    let mut cluster = cluster(1, 3);
    let newcomer = cluster.miners[2].clone();
    cluster.wake();
    cluster.run(&mut Order(8), |cluster| cluster.members[0].node.cut().is_some());
    let node = &cluster.members[0].node;
    let late = registration_of(node.state(), &newcomer, &newcomer, WORK);
    let error = RegistrationError::AfterCut(newcomer.public().short());
    assert_eq!(refused(node, &signed(&late, &newcomer)), error);
}

#[test]
fn an_inbox_that_names_more_than_can_matter_is_refused() {
    let cluster = cluster(1, 3);
    let node = &cluster.members[0].node;
    let validator = &cluster.validators[0];
    // 2 · 2 for work, 2 · 1 for burns, 3 rotations.
    let limit = 9;
    let inbox = |count: u8| {
        let named = |number| CutRegistration {
            owner: PublicKey::from_bytes([number; 32]),
            registration: Hash::default().into(),
        };
        let (run, window) = (node.state().run(), node.state().window());
        let registrations = (0..count).map(named).collect();
        let inbox = Inbox { run, window, validator: validator.public(), contributions: vec![], registrations };
        Entry::Envelope(Signed::sign(inbox, validator).envelope())
    };
    assert!(node.clone().step(Input::Entry(inbox(limit))).is_ok());
    let reject = node.clone().step(Input::Entry(inbox(limit + 1))).unwrap_err();
    assert!(matches!(reject, Reject::Cut(CutError::Registrations { found: 10, limit: 9, .. })), "{reject}");
}

/// Less than a third of the stake can neither put a registration into the cut nor keep one out of it that the
/// others hold.
#[test]
fn a_faulty_minority_neither_adds_nor_drops_a_registration() {
    let (validators, miners) = (keys("validator", 4), keys("miner", 1));
    let stakes: Vec<(&SecretKey, u64)> = validators.iter().map(|key| (key, 1)).collect();
    let state = RunState::new(
        Arc::new(genesis(&stakes, &miners, 1)),
        Hash::of(b"initial").into(),
        Hash::of(b"zero").into(),
        100 * 16 + 1,
    )
    .unwrap();
    let named = |number: u8| CutRegistration {
        owner: PublicKey::from_bytes([number; 32]),
        registration: Hash::of(&[number]).into(),
    };
    let inbox = |validator: usize, registrations: Vec<CutRegistration>| Inbox {
        run: state.run(),
        window: state.window(),
        validator: validators[validator].public(),
        contributions: vec![],
        registrations,
    };
    let cut = |inboxes: &[Inbox]| {
        let ids: Vec<(InboxId, &Inbox)> = inboxes.iter().map(|inbox| (payload::id_of(inbox).into(), inbox)).collect();
        state.cut(&ids).unwrap().registrations
    };
    let honest = [1, 2].map(named).to_vec();
    let liar = inbox(3, [2, 3].map(named).to_vec());
    let all: Vec<Inbox> = (0..3).map(|validator| inbox(validator, honest.clone())).chain([liar]).collect();
    assert_eq!(cut(&all), honest);
    // Also where one of the honest is left out of the quorum.
    assert_eq!(cut(&all[1..]), honest);
    // Of two of one owner that pass, the lower id counts.
    let (a, b) = (named(5), CutRegistration { registration: Hash::of(b"other").into(), ..named(5) });
    let split: Vec<Inbox> = (0..4).map(|validator| inbox(validator, vec![if validator < 2 { a } else { b }])).collect();
    assert_eq!(cut(&split), [a.min(b)]);
}

#[test]
fn a_run_may_begin_with_nobody() {
    let (validators, miners) = (keys("validator", 2), keys("miner", 1));
    let stakes: Vec<(&SecretKey, u64)> = validators.iter().map(|key| (key, 1)).collect();
    let start = genesis(&stakes, &[], 2);
    let mut cluster = Cluster::of(start, validators, miners.clone());
    cluster.cheat = nobody();
    cluster.wake();
    cluster.run(&mut Order(9), |_| false);
    let node = &cluster.members[0].node;
    assert!(node.cut().is_none(), "nobody is hurried past newcomers");
    let registration = registration_of(node.state(), &miners[0], &miners[0], WORK);
    cluster.deliver(2, Input::Entry(signed(&registration, &miners[0])));
    let mut order = Order(10);
    cluster.run(&mut order, |_| false);
    cluster.expire();
    cluster.run(&mut order, is_over);
    assert!(is_over(&cluster), "stalled");
    let closed = cluster.members[0].node.closed();
    assert_eq!((closed[0].contributions.len(), closed[1].contributions.len()), (0, 1));
    assert_eq!(closed[1].contributions[0].payload().miner, miners[0].public());
}

/// Six certificates, all anchored to window 0 while a slot is cheap. The two that are shown there join. The price that
/// the others find in the next window is the one that they must pay, whatever it was at their anchor.
#[test]
fn work_that_was_hoarded_is_refused_at_a_stale_price() {
    let (validators, miners) = (keys("validator", 1), keys("miner", 2));
    let mut start = genesis(&[(&validators[0], 1)], &miners, 3);
    start.registration.slots = 16;
    start.registration.hashcash.rise_ppm = 16_000_000;
    start.registration.hashcash.most = 1 << 40;
    start.model.sequence_length = 1;
    let mut cluster = Cluster::of(start, validators, miners);
    cluster.cheat = nobody();
    let hoard = keys("hoard", 6);
    let state = cluster.members[0].node.state().clone();
    let anchored: Vec<Registration> = hoard.iter().map(|key| registration_of(&state, key, key, WORK)).collect();
    for place in 0..2 {
        let entry = signed(&anchored[place], &hoard[place]);
        (0..cluster.members.len()).for_each(|to| cluster.deliver(to, Input::Entry(entry.clone())));
    }
    let mut order = Order(1);
    cluster.wake();
    cluster.run(&mut order, |cluster| cluster.members.iter().all(|one| one.node.state().window().0 == 1));
    let node = &cluster.members[0].node;
    let (before, price) = (state.members().hashes(), node.state().members().hashes());
    assert!(price > 100 * before, "{before}, then {price}");
    assert!(hoard[..2].iter().all(|key| node.state().members().by_owner(&key.public()).is_some()));
    for (key, asked) in hoard.iter().zip(&anchored).skip(2) {
        let asked = Registration { window: WindowIndex(1), ..asked.clone() };
        let found = refused(node, &signed(&asked, key));
        let is_named =
            matches!(&found, RegistrationError::StalePrice { hashes, worth, .. } if *hashes == price && *worth < price);
        assert!(is_named, "{found}");
    }
}

/// Slots that nobody uses hold no window open: after some windows nobody waits for their members.
#[test]
fn nobody_waits_for_an_idle_slot() {
    let mut cluster = cluster(8, 3);
    let idle = cluster.miners[1].public();
    cluster.silent.insert(idle);
    let idle_windows = cluster.members[0].node.state().genesis().registration.idle_windows;
    cluster.wake();
    let mut order = Order(4);
    let mut expired = 0;
    while !is_over(&cluster) && expired < 40 {
        cluster.run(&mut order, is_over);
        if !is_over(&cluster) {
            expired += 1;
            cluster.expire();
        }
    }
    assert!(is_over(&cluster), "stalled");
    assert_eq!(expired, idle_windows, "one deadline for each window in which it could have contributed");
}
