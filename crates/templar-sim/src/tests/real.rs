//! Runs whose miners really train.

use super::*;

/// Two windows of four miners that really train; one of them may play a strategy.
fn real(strategy: Option<Strategy>) -> Config {
    let adversaries = strategy.map(|strategy| (strategy, 1)).into_iter().collect();
    Config { miners: 4, validators: 2, windows: 2, faults: Faults::None, real: true, adversaries, ..config(5) }
}

#[test]
fn a_real_run_learns_and_ends_in_the_same_state_in_any_number_of_threads() {
    let in_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(real(None)))
    };
    let (one, two) = (in_threads(1), in_threads(2));
    assert_eq!(one, two);
    // A model that guesses among 2,048 tokens begins near ln 2048 = 7.62.
    assert!(one.held_out_loss_nanonats < 7_500_000_000, "{}", one.held_out_loss_nanonats);
}

/// With real training an honest delta may raise the loss of a few pages. Once, that costs nothing, and the
/// invariants allow it.
#[test]
fn a_real_delta_that_harms_a_page_is_no_penalty() {
    let harmed = Config { windows: 4, replays: ReplayMode::Sparse, seed: 9, ..real(None) };
    assert!(run(harmed).members.iter().all(|member| member.refused == 0 && member.noticed.is_none()));
}

/// With real training, a contribution that continues from a planted window which nobody replayed matches its
/// own replay, because the replay starts from the state that was left. Where every window is replayed, the same
/// plant is refused.
#[test]
fn a_contribution_that_continues_from_an_unaudited_window_matches_in_real_training() {
    let adversaries = vec![(Strategy::Plant, 1)];
    let config = Config { windows: 4, replays: ReplayMode::Sparse, adversaries, ..real(None) };
    let plants = |seed, window| strategy::plants_in(&setup::initial(seed), templar_manifest::WindowIndex(window));
    let in_the_first = |seed: &u64| plants(*seed, 0) && !(1..4).any(|window| plants(*seed, window));
    // A plant stays unseen with probability 0.64, and the contribution after it is replayed with probability 0.59.
    let unseen = (0..).filter(in_the_first).take(24).find_map(|seed| {
        let report = run(Config { seed, ..config.clone() });
        (report.planted.seen == 0 && report.planted.matched > 0).then_some((seed, report))
    });
    let (seed, sparse) = unseen.expect("one of so many is not drawn, and one that follows is");
    assert_eq!((sparse.planted.sent, sparse.planted.aggregated, sparse.planted.carried), (1, 1, 3));
    assert!(sparse.members.iter().all(|member| member.noticed.is_none()));
    let three = run(Config { windows: 1, replays: ReplayMode::Three, seed, ..config });
    assert_eq!(three.planted, Planted { sent: 1, aggregated: 0, seen: 1, carried: 0, matched: 0 });
}

#[test]
fn replays_of_real_training_find_every_cheat() {
    for (strategy, found) in [
        (Strategy::Zeros, "replay differs from step 1,"),
        (Strategy::Noise, "replay differs from step 1,"),
        (Strategy::Stale, "replay differs from step 1,"),
        (Strategy::CopyHash, "malformed delta: made by miner"),
        (Strategy::CopyPerturbed, "replay differs from step 1,"),
        (Strategy::Withhold, "withheld"),
        (Strategy::WrongBase, "replay differs from step 0,"),
        (Strategy::WrongPages, "replay differs from step 1,"),
        (Strategy::FewerSteps, "replay differs from step 6,"),
        (Strategy::Garbage, "malformed delta"),
        (Strategy::Scale, "replay differs from step 11"),
        (Strategy::SignFlip, "replay differs from step 11"),
        (Strategy::Poison, "replay differs from step 1,"),
        (Strategy::BadState, "replay differs from step 11"),
    ] {
        let report = run(real(Some(strategy)));
        let cheat = report.members.iter().find(|member| member.strategy == Some(strategy.name())).unwrap();
        let notice = cheat.noticed.as_ref().unwrap_or_else(|| panic!("{} is not noticed", strategy.name()));
        assert!(notice.how.contains(found), "{}: {}", strategy.name(), notice.how);
        // A stale miner was honest in its first window.
        if strategy != Strategy::Stale {
            assert_eq!(cheat.micros, 0, "{}", strategy.name());
        }
    }
}
