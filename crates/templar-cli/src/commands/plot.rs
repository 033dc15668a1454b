//! `templar plot`: a plot of a run as an SVG file.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::json;
use templar_explore::Source;
use templar_explore::plots::RunPlot;
use templar_home::files::{Privacy, write_whole};

use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::printer::shown;

/// The quantity of a plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Quantity {
    /// The loss on held-out text, and the training loss of the miners
    Loss,
    /// What each window mints, for miners and in all
    Pay,
    /// The bytes that miners sent, beside what 32-bit floats would take
    Bytes,
}

/// Draw the loss, the pay or the traffic of a run as an SVG file
///
/// The file is light on a light page and dark on a dark one, and its text can be searched. Browsers show the value of
/// each mark beside the pointer.
#[derive(Debug, clap::Args)]
pub(crate) struct PlotArgs {
    /// What to draw
    quantity: Quantity,
    /// The file to write. A file of this name is not overwritten
    #[arg(long, value_name = "FILE.svg")]
    out: PathBuf,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, args: &PlotArgs) -> CommandResult {
    if !args.out.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("svg")) {
        let error = CommandError::says(Code::Usage, format_args!("{} does not end in .svg", shown(&args.out)));
        return Err(error.hint("plots are SVG files; browsers and most editors read them"));
    }
    if args.out.exists() {
        let error = CommandError::says(Code::Failed, format_args!("{} exists", shown(&args.out)));
        return Err(error.hint("nothing was changed; choose another file"));
    }
    let source = Source::open(invocation.root()?, args.run.as_deref()).map_err(|error| *error)?;
    let plot = match args.quantity {
        Quantity::Loss => RunPlot::Loss,
        Quantity::Pay => RunPlot::Pay,
        Quantity::Bytes => RunPlot::Bytes,
    };
    let plot = plot.of(&source);
    write_whole(&args.out, plot.file().as_bytes(), Privacy::Everybody)?;
    let text = format!("{}: {}", shown(&args.out), plot.title);
    invocation.printer.document(&json!({"file": shown(&args.out), "title": plot.title}), text);
    Ok(Code::Ok)
}
