//! The ballot beside Malachite's consensus core (`arc-malachitebft-core-driver` 0.8), an independent implementation of
//! the same paper. `.ci/long malachite` runs it.
//!
//! Validators run windows with the real code of `templar-protocol`. Messages are late, lost and out of order, times are
//! up at any moment, and a faulty validator contradicts itself. Beside each honest validator stand three of Malachite's
//! drivers, one for each decision of the window: the cut, the reveal set and the record. A driver is told what the
//! validator's journal has, in its order: its height is the decision, its rounds are the attempts, and its values are the
//! ids of cuts, reveal sets and records. After every input both must have given the same votes (step, attempt, value or
//! none), decided the same, wait for the end of the same times, and name the same validators that contradicted
//! themselves. A driver is told a vote of its validator only after it has said the same vote itself.
//!
//! # What is compared
//!
//! The core ballot: which votes follow from which votes. So this covers locks, polkas, certificates, thresholds of
//! unequal stakes, the end of rounds and the joining of later ones. Values are the application's in Tendermint.
//! `application.rs` says which value is right and which one a validator would propose, from the journal and by public
//! functions, and `tally.rs` counts votes with code of its own.
//!
//! # What is not compared
//!
//! Where the ballot differs by design, the driver is told the event of the paper that stands for what happened. Each such
//! translation is counted and printed:
//!
//! * *There are no proposals.* The prevote of an attempt's proposer is its proposal. The round of its polka is the newest
//!   one that the journal has. In attempt 0 a validator's own value is proposed to it. A polka or a certificate stands
//!   for the proposal of its value, since the body is in the log. So a polka of others ends the step of a validator that
//!   has not prevoted, which Malachite's driver does first.
//! * *Only the log counts.* A validator that prevoted its own value precommits it only when somebody has published the
//!   body. Malachite keeps the value with its proposal.
//! * *A refusal waits.* A proposal that the lock forbids gets no vote before the time is up, and then the newest polka's
//!   value gets it. Malachite prevotes nil at once. Whether the lock forbids it is asked of a copy of the driver.
//! * *No time is waited for in vain.* A step or round ends as soon as no value can win it any more.
//!   If a validator that has voted in the round votes a second time, a value may win after all. The round is taken up
//!   again by those who have not voted in a later one, and Malachite knows no way back.
//! * *Votes in later attempts count together.* More than a third in an attempt or later ones joins it. Malachite counts
//!   each round by itself.
//! * *Both votes count* of a validator that gave two in one step, as in the paper, so a journal gives the same in any
//!   order. Malachite counts the first. Majorities that need the second are told as certificates.
//! * *Late polkas count.* A proposer proposes the newest polka of its journal. Malachite's valid value is of polkas that
//!   were seen in their own round.
//!
//! Restarts are not compared: the driver has no journal. Nobody contributes in these runs, so the objections of a
//! validator to a record are only those to another outer step.
//!
//! # Small courses, all of them
//!
//! `exhaustive.rs` gives one validator of four every sequence of a few votes and ends of times.
//!
//! `COURSES=n` plays so many random courses, `SEED=n` begins with this one, and `DEPTH=n` is the length of the small
//! ones.

mod application;
mod beside;
mod context;
mod counts;
mod course;
mod exhaustive;
mod member;
mod said;
mod tally;
mod twin;

use std::process::ExitCode;

use counts::Counts;
use course::Course;
use exhaustive::Scope;
use member::Setting;

/// Stakes that are played: equal ones, and two that are not.
const STAKES: [&[u64]; 3] = [&[1, 1, 1, 1], &[3, 1, 2, 2], &[1, 2, 3, 4, 5, 6, 7]];

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn main() -> ExitCode {
    let settings = STAKES.map(Setting::new);
    let (first, courses) = (number("SEED", 0), number("COURSES", 6_000));
    let mut counts = Counts::default();
    for seed in first..first + courses {
        let setting = &settings[(seed % STAKES.len() as u64) as usize];
        if let Err(why) = Course::new(setting, seed).play(&mut counts) {
            eprintln!("error: {why}\nhint: SEED={seed} COURSES=1 .ci/long malachite plays this course alone");
            return ExitCode::FAILURE;
        }
    }
    println!("random courses\n{counts}\n");
    let depth = number("DEPTH", 3) as usize;
    for scope in
        [Scope { attempts: 1, depth: depth + 2, has_liar: false }, Scope { attempts: 2, depth, has_liar: true }]
    {
        let mut counts = Counts::default();
        let mut states = 0;
        for who in 0..3 {
            match exhaustive::search(&settings[0], who, scope, &mut counts) {
                Ok(found) => states += found,
                Err(why) => {
                    eprintln!("error: validator {who}: {why}");
                    return ExitCode::FAILURE;
                }
            }
        }
        println!("{scope:?}: {states} states\n{counts}\n");
    }
    ExitCode::SUCCESS
}
