//! The list of closed windows, the newest first, a hundred on a page.

use maud::{Markup, html};
use serde::Serialize;
use templar_manifest::WindowIndex;

use crate::facts::WindowRow;
use crate::html::{self, Number, Text, Tone, table, tag};
use crate::page::{Desk, Found, Missing};
use crate::text::{alpha, bytes, count, nats};

/// The number of windows on one page.
const PER_PAGE: usize = 100;

#[derive(Debug, Serialize)]
struct WindowList {
    /// The number of closed windows.
    closed: usize,
    /// The next page shows the windows before this one; `None` on the last.
    before: Option<WindowIndex>,
    /// The windows, the newest first.
    windows: Vec<WindowRow>,
}

pub(super) fn page(desk: &Desk<'_>, before: Option<WindowIndex>) -> Result<Found, Missing> {
    let folded = desk.source.folded();
    let all = &folded.facts.windows;
    let end = before.map_or(all.len(), |before| usize::try_from(before.0).unwrap_or(usize::MAX).min(all.len()));
    let start = end.saturating_sub(PER_PAGE);
    let list = WindowList {
        closed: all.len(),
        before: (start > 0).then_some(WindowIndex(start as u64)),
        windows: all[start..end].iter().rev().copied().collect(),
    };
    drop(folded);
    Ok(Found::page(desk.form, "Windows", &list, |list| {
        html! {
            h1 { "Windows" }
            p.lead {
                (count(list.closed as u64, "window")) " are closed. In each, every miner trains from the same model on "
                "pages of its own, and the accepted updates give the next model."
            }
            (table_of(list.windows.iter()))
            p.more {
                @if let Some(before) = list.before { a href={ "/windows?before=" (before) } { "Older windows" } }
                @if list.windows.first().is_some_and(|row| row.window.0 + 1 < list.closed as u64) {
                    a href="/windows" { "The newest" }
                }
            }
        }
    }))
}

/// A table of windows.
pub(super) fn table_of<'a>(rows: impl Iterator<Item = &'a WindowRow>) -> Markup {
    let heads = [
        Text("window"),
        Number("held-out loss"),
        Number("training loss"),
        Number("updates"),
        Number("in the model"),
        Text("refused"),
        Number("sent"),
        Number("minted, ALPHA"),
        Text("record"),
    ];
    let rows = html! { @for row in rows { tr {
        th scope="row" { (html::window(row.window)) }
        td.num { (nats(row.held_out_loss_nanonats)) }
        td.num { @if let Some(loss) = row.training_loss_nanonats { (nats(loss)) } @else { "–" } }
        td.num { (row.in_cut) }
        td.num { (row.aggregated) }
        td {
            @if row.valid < row.in_cut { (tag(Tone::Bad, &format!("{} refused", row.in_cut - row.valid))) }
            @else { "none" }
        }
        td.num { (bytes(row.delta_bytes)) }
        td.num { (alpha(row.minted_micros)) }
        td { (html::object(row.record)) }
    } } };
    table("Windows", &heads, rows)
}
