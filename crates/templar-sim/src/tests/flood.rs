//! A validator that signs a different inbox, score and vote for every node.

use super::*;

/// Seeds that once failed. In seed 38, two honest validators waited for ever for prevotes of others that had precommitted
/// nothing without one. In the others, votes took the places in which a score waits until a record names it: windows
/// stayed open ten times as long, and honest miners came too late for the next cut.
#[test]
fn a_flood_of_statements_holds_no_window_open_and_leaves_nobody_out() {
    for (pay, seed) in [(PayRule::Ranks, 7), (PayRule::Measured, 14), (PayRule::Measured, 38)] {
        let adversaries = vec![(Strategy::Flood, 1)];
        let shape = Config { miners: 12, validators: 7, windows: 16, keep_history: false, ..config(seed) };
        assert_eq!(run(Config { pay, adversaries, ..shape }).progress.windows, 16);
    }
}
