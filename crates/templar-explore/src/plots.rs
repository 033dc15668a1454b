//! The plots of a run: its losses, its traffic, and what it pays.

use templar_manifest::{MintKind, PublicKey};
use templar_protocol::ClosedWindow;

use crate::Source;
use crate::facts::WindowRow;
use crate::plot::{Mark, Plot, Point, Series};
use crate::source::Folded;
use crate::text::{alpha, bytes, nats};

/// A plot of a run, by its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunPlot {
    /// The loss on held-out text, and the training loss of the miners.
    Loss,
    /// What each window mints, for miners and in all.
    Pay,
    /// The bytes that miners sent, beside what 32-bit floats would take.
    Bytes,
}

impl RunPlot {
    /// The plot of a run as its journal tells it now.
    pub fn of(self, source: &Source) -> Plot {
        let folded = source.folded();
        match self {
            Self::Loss => loss(&folded.facts.windows),
            Self::Pay => minted(&folded),
            Self::Bytes => traffic(&folded.facts.windows),
        }
    }
}

fn series(name: &'static str, mark: Mark, points: impl Iterator<Item = (u64, f64, String)>) -> Series {
    let point = |(window, y, value): (u64, f64, String)| Point {
        x: window as f64,
        y,
        title: format!("window {window}: {name} {value}"),
    };
    Series { name, mark, points: points.map(point).collect() }
}

pub(crate) fn loss(windows: &[WindowRow]) -> Plot {
    let point = |row: &WindowRow, loss: u64| (row.window.0, loss as f64 / 1e9, nats(loss));
    let training = windows.iter().filter_map(|row| Some(point(row, row.training_loss_nanonats?)));
    let held_out = windows.iter().map(|row| point(row, row.held_out_loss_nanonats));
    Plot {
        title: "Loss by window: training loss of the miners and loss on held-out text".to_owned(),
        unit: "nats a token",
        is_logarithmic: false,
        from_zero: false,
        series: vec![
            series("training, mean of the accepted miners", Mark::Dots, training),
            series("held-out text", Mark::Line, held_out),
        ],
    }
}

pub(crate) fn traffic(windows: &[WindowRow]) -> Plot {
    let point = |row: &WindowRow, size: u64| (row.window.0, size as f64, bytes(size));
    Plot {
        title: "Bytes that miners sent by window, beside what 32-bit floats would take".to_owned(),
        unit: "bytes, by factors of ten",
        is_logarithmic: true,
        from_zero: false,
        series: vec![
            series("as 32-bit floats", Mark::Line, windows.iter().map(|row| point(row, row.fp32_bytes))),
            series("sent", Mark::Line, windows.iter().map(|row| point(row, row.delta_bytes))),
        ],
    }
}

fn minted(folded: &Folded) -> Plot {
    let of_miners = |closed: &ClosedWindow| {
        let mints = closed.window.body.mints.iter().filter(|mint| mint.kind == MintKind::Miner);
        mints.map(|mint| mint.amount_micros).sum::<u64>()
    };
    let point = |window: u64, micros: u64| (window, micros as f64 / 1e6, alpha(micros));
    let miners = folded.closed.iter().map(|closed| point(closed.window.header.window.0, of_miners(closed)));
    let all = folded.facts.windows.iter().map(|row| point(row.window.0, row.minted_micros));
    Plot {
        title: "ALPHA minted by window: to miners, and to all".to_owned(),
        unit: "ALPHA",
        is_logarithmic: false,
        from_zero: true,
        series: vec![series("to all", Mark::Bars, all), series("to miners", Mark::Line, miners)],
    }
}

/// The pay of one account in each window.
pub(crate) fn pay_of(closed: &[ClosedWindow], account: &PublicKey) -> Plot {
    let paid = |closed: &ClosedWindow| {
        let mints = closed.window.body.mints.iter().filter(|mint| mint.account == *account);
        mints.map(|mint| mint.amount_micros).sum::<u64>()
    };
    let points = closed.iter().map(|closed| {
        let micros = paid(closed);
        (closed.window.header.window.0, micros as f64 / 1e6, alpha(micros))
    });
    Plot {
        title: format!("Pay of {} by window, in ALPHA", account.short()),
        unit: "ALPHA",
        is_logarithmic: false,
        from_zero: true,
        series: vec![series("pay", Mark::Bars, points)],
    }
}
