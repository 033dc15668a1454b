//! The audit in the browser: everything that the records claim, computed again, turning green piece by piece.

use maud::{Markup, html};
use serde::Serialize;
use templar_manifest::{PublicKey, WindowIndex};
use templar_query::audit::findings::{AuditAnswer, VerdictView};

use crate::audit::{AuditProgress, AuditStage, CheckedPart, CheckedWindow};
use crate::html::{self, Text, Tone, command, tag};
use crate::page::{Desk, Found, Missing};
use crate::text::count;

/// The most windows of which the page has a row: the newest that the audit has begun.
const MAX_ROWS: usize = 200;

/// What a square of the grid can look like: its class, its mark, and its meaning.
const TO_DO: (&str, &str, &str) = ("", "·", "to do");
const UNDER_WAY: (&str, &str, &str) = ("wait", "…", "under way");
const SAME: (&str, &str, &str) = ("good", "✓", "the same hashes");
const ANOTHER: (&str, &str, &str) = ("bad", "✗", "another result");
const MISSING: (&str, &str, &str) = ("wait", "?", "an input is missing");

#[derive(Debug, Serialize)]
struct AuditPage {
    /// The number of closed windows.
    closed: usize,
    #[serde(flatten)]
    progress: AuditProgress,
    /// The token of the form; `None` where nobody may start an audit.
    #[serde(skip)]
    token: Option<String>,
    /// The miners of each closed window, in the order of the record.
    #[serde(skip)]
    miners: Vec<(WindowIndex, Vec<PublicKey>)>,
}

pub(super) fn page(desk: &Desk<'_>) -> Result<Found, Missing> {
    let folded = desk.source.folded();
    let of_window = |closed: &templar_protocol::ClosedWindow| {
        let miners = closed.window.body.outcomes.iter().map(|outcome| outcome.miner);
        (closed.window.header.window, miners.collect())
    };
    let progress = desk.audit.progress();
    let closed = &folded.closed;
    let begun = progress.windows.keys().next_back().map_or(0, |window| window.0 as usize + 1);
    let until = closed.len().min(begun.max(MAX_ROWS));
    let from = until.saturating_sub(MAX_ROWS);
    let view = AuditPage {
        closed: closed.len(),
        progress,
        token: desk.token.map(str::to_owned),
        miners: closed[from..until].iter().map(of_window).collect(),
    };
    drop(folded);
    Ok(Found::page(desk.form, "Audit", &view, AuditPage::html))
}

impl AuditPage {
    fn html(&self) -> Markup {
        html! {
            h1 { "Audit" }
            p.lead {
                "Believe nothing here: this computes all of it again from the files of this home alone. Each update is "
                "trained again, each measurement taken again, each record, model and balance made again, and every "
                "hash compared."
            }
            (self.banner())
            @if self.progress.stage != AuditStage::Running { (self.start()) }
            @if self.progress.stage != AuditStage::Idle {
                @if !self.progress.home.is_empty() { h2 { "This home" } (parts(&self.progress.home)) }
                h2 { "Windows" }
                (self.grid())
                (self.faults())
            }
            h2 { "Without a browser" }
            p { "The same in a terminal, without a network where the system allows to give it up:" }
            (command("templar audit --offline"))
        }
    }

    fn start(&self) -> Markup {
        html! {
            @match &self.token {
                Some(token) => {
                    form action="/audit" method="post" {
                        input type="hidden" name="token" value=(token);
                        button.main { "Compute it all again" }
                    }
                    p.note {
                        "It uses the processors of this machine and takes about as long as the training did. Meanwhile "
                        "no node can start in this home."
                    }
                }
                None => { p { "An audit can be started only from a browser on the machine of the explorer." } }
            }
        }
    }

    fn banner(&self) -> Markup {
        let AuditProgress { stage, answer, error, .. } = &self.progress;
        html! {
            @match (stage, answer, error) {
                (AuditStage::Idle, ..) => {}
                (AuditStage::Running, ..) => { p.banner.wait role="status" {
                    "Computing: " (self.done()) " of " (count(self.closed as u64, "window")) " done."
                } }
                (AuditStage::Done, _, Some(error)) => {
                    p.banner.bad role="status" { "The audit ended before its end: " (error) }
                }
                (AuditStage::Done, Some(answer), None) => { p.banner.(tone(answer.verdict).class()) role="status" {
                    @match answer.verdict {
                        AuditAnswer::Match => {
                            "Match: " (count(self.done() as u64, "window"))
                            " computed again, and every hash is the same."
                        }
                        AuditAnswer::Mismatch => { "Mismatch: something is not what the records say." }
                        AuditAnswer::Unavailable => {
                            "Not everything could be computed: an input is missing or damaged here."
                        }
                    }
                    @if let Some(what) = &answer.what { " " (what) }
                } }
                (AuditStage::Done, None, None) => {}
            }
        }
    }

    /// The number of windows that are done.
    fn done(&self) -> usize {
        self.progress.windows.values().filter(|window| window.verdict.is_some()).count()
    }

    fn grid(&self) -> Markup {
        let most = self.miners.iter().map(|(_, miners)| miners.len()).max().unwrap_or(0);
        let heads = [Text("window"), Text("updates, trained again"), Text("record"), Text("model"), Text("balances")];
        let rows = html! { @for (window, miners) in &self.miners { (self.row(*window, miners)) } };
        html! {
            div.grid-audit { (html::table("Windows, computed again", &heads, rows)) }
            p.note {
                @for (class, mark, words) in [TO_DO, UNDER_WAY, SAME, ANOTHER, MISSING] {
                    span class={ "cell " (class) } aria-hidden="true" { (mark) } " " (words) "  "
                }
                @if most > 0 { "An update that was refused is the same if it is refused again, for the same reason." }
            }
        }
    }

    fn row(&self, window: WindowIndex, miners: &[PublicKey]) -> Markup {
        let found = self.progress.windows.get(&window);
        let running = self.progress.stage == AuditStage::Running && found.is_some_and(|found| found.verdict.is_none());
        let part = |name: &str| found.and_then(|found| found.parts.iter().find(|part| part.part == name));
        let next = found.and_then(|found| miners.iter().find(|miner| !found.contributions.contains_key(miner)));
        html! { tr {
            th scope="row" { (html::window(window)) }
            td { @for miner in miners {
                @let verdict = found.and_then(|found| found.contributions.get(miner));
                (cell(verdict, running && next == Some(miner), &format!("update of {}", miner.short()))) " "
            } }
            @if let Some(lost) = found.and_then(not_reached) {
                td colspan="3" { (cell(Some(&lost.verdict), false, "window")) }
            } @else {
                @for piece in ["record", "checkpoint", "ledger"] {
                    td { (cell(part(piece).map(|part| &part.verdict), running && next.is_none(), piece)) }
                }
            }
        } }
    }

    /// Everything that is no match, with its reason.
    fn faults(&self) -> Markup {
        let of_window = |(window, found): (&WindowIndex, &CheckedWindow)| {
            let name = format!("window {window}");
            let updates =
                found.contributions.iter().map(|(miner, verdict)| (format!("update of {}", miner.short()), verdict));
            let parts = found.parts.iter().map(|part| (part.part.clone(), &part.verdict));
            let named = |(what, verdict): (String, &VerdictView)| {
                verdict.what.clone().map(|why| (format!("{name}, {what}"), verdict.verdict, why))
            };
            updates.chain(parts).filter_map(named).collect::<Vec<_>>()
        };
        let faults: Vec<_> = self.progress.windows.iter().flat_map(of_window).take(MAX_ROWS).collect();
        html! { @if !faults.is_empty() {
            h2 { "What is not the same" }
            ul { @for (place, answer, why) in faults {
                li { (tag(tone(answer), answer.name())) " " (place) ": " (why) }
            } }
        } }
    }
}

/// The only part of a window that could not be begun.
fn not_reached(found: &CheckedWindow) -> Option<&CheckedPart> {
    found.parts.iter().find(|part| part.part == "window")
}

fn parts(parts: &[CheckedPart]) -> Markup {
    html! { ul { @for part in parts { li {
        (tag(tone(part.verdict.verdict), part.verdict.verdict.name())) " " (part.part)
        @if let Some(what) = &part.verdict.what { ": " (what) }
    } } } }
}

fn cell(verdict: Option<&VerdictView>, is_next: bool, what: &str) -> Markup {
    let (class, mark, words) = match verdict.map(|verdict| verdict.verdict) {
        Some(AuditAnswer::Match) => SAME,
        Some(AuditAnswer::Mismatch) => ANOTHER,
        Some(AuditAnswer::Unavailable) => MISSING,
        None if is_next => UNDER_WAY,
        None => TO_DO,
    };
    let name = format!("{what}: {words}");
    html! { span class={ "cell " (class) } role="img" aria-label=(name) title=(name) { (mark) } }
}

fn tone(answer: AuditAnswer) -> Tone {
    match answer {
        AuditAnswer::Match => Tone::Good,
        AuditAnswer::Mismatch => Tone::Bad,
        AuditAnswer::Unavailable => Tone::Wait,
    }
}
