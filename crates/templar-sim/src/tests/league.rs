//! Validators that lie where nobody else measures.

use super::*;

/// Three of ten validators lie about what only they measured, which is one contribution of 120. Others find it in the
/// next window, and the league loses what it earned. No honest member pays.
#[test]
fn a_league_that_measures_alone_is_found_in_the_next_window() {
    let (mut league, mut honest, mut found) = (0, 0, 0);
    for seed in 0..4 {
        let adversaries = vec![(Strategy::League, 3)];
        let keep_history = false;
        let report = run(Config { miners: 12, validators: 10, windows: 24, adversaries, keep_history, ..config(seed) });
        assert_eq!(report.progress.windows, 24);
        let (earned, _) = report.earned(MemberRole::Validator, Some(Strategy::League));
        let (others, count) = report.earned(MemberRole::Validator, None);
        league += earned / 3;
        honest += others / count as u64;
        for member in &report.members {
            let is_found = member.noticed.is_some();
            assert!(!is_found || member.strategy == Some(Strategy::League.name()), "{:?}", member.noticed);
            found += u32::from(is_found);
        }
    }
    println!("of honest pay: {} per mille, {found} of 12 found", league * 1000 / honest);
    assert!(found >= 9, "{found} of 12");
    assert!(league * 10 < honest * 9, "{league} against {honest}");
}
