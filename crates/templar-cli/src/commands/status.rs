//! `templar status`: the state of a run.

use templar_query::find::run_context;
use templar_query::participation::{Awaited, WindowStage};
use templar_query::status::{ApplicationProgress, Balances, RunStatus, SlotsView};

use crate::error::{Code, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{alpha, amount, table};

/// Print the state of the run: the open window and the members it waits for, slots, model, balances
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, args: &StatusArgs) -> CommandResult {
    let access = invocation.read()?;
    let context = run_context(&access, args.run.as_deref())?;
    let status = RunStatus::read(&access, &context)?;
    let me = access.home.key()?.public();
    invocation.printer.document(&status, text(&status, status.registration.owner == Some(me)));
    Ok(Code::Ok)
}

/// The status for a person. `is_owner`: the home's own key owns its slot.
fn text(status: &RunStatus, is_owner: bool) -> String {
    let mut text = format!("run         {} ({})\n", status.run.short(), status.name);
    if status.stage == WindowStage::Over {
        text.push_str(&format!("window      the run is over after {} windows\n", status.window));
    } else {
        let of = if status.windows == 0 { String::new() } else { format!(" of {}", status.windows) };
        text.push_str(&format!("window      {}{of} is open: {}\n", status.window, status.stage.name()));
        let contributed = status.contributed.len();
        text.push_str(&format!("contributed {contributed} of {} members\n", status.members.len()));
        text.push_str(&format!("awaited     {}\n", awaited_line(&status.awaited)));
    }
    text.push_str(&slots(&status.registration, is_owner));
    if let Some(silence) = &status.silence {
        text.push_str(&format!("signs       nothing: {silence}\n"));
    }
    text.push_str(&format!("checkpoint  {}\n", status.checkpoint.short()));
    if let Some(loss) = status.held_out_loss {
        text.push_str(&format!("held-out    {loss:.4} nats\n"));
    }
    text.push_str(&balances(&status.balances));
    text
}

/// The awaited members on one line, such as `contribution of 3f…, score of 9a…`.
pub(crate) fn awaited_line(awaited: &[Awaited]) -> String {
    let parts: Vec<String> = awaited.iter().map(|one| format!("{} of {}", one.what.name(), one.key.short())).collect();
    parts.join(", ")
}

fn slots(view: &SlotsView, is_owner: bool) -> String {
    let mut lines = format!(
        "slots       {} of {} taken; joining costs proof of work ({} hashes), or burning {} ALPHA\n",
        view.members,
        view.slots,
        amount(view.hashes as f64),
        alpha(view.burn_micros)
    );
    if let (Some(slot), Some(owner), Some(since)) = (view.slot, view.owner, view.since) {
        let of = if is_owner { String::new() } else { format!(" of {}", owner.short()) };
        lines.push_str(&format!("this home   trains in slot {slot}{of} since window {since}\n"));
    }
    if let (Some(applicant), Some(progress)) = (view.applicant, view.progress) {
        let progress = match progress {
            ApplicationProgress::Accepted => "accepted",
            ApplicationProgress::Submitted => "submitted for this window",
            ApplicationProgress::ToSubmit => "waits for a node to submit it in this window",
            ApplicationProgress::Expired => "too old; `templar register` makes another",
        };
        lines.push_str(&format!("registered  for {}: {progress}\n", applicant.short()));
    }
    lines
}

fn balances(balances: &Balances) -> String {
    if balances.accounts.is_empty() {
        return String::new();
    }
    let mut rows = vec![["account", "free", "vesting"].map(str::to_owned).to_vec()];
    for account in &balances.accounts {
        rows.push(vec![account.account.short(), alpha(account.free_micros), alpha(account.vesting_micros)]);
    }
    rows.push(vec!["treasury".to_owned(), alpha(balances.treasury_micros), String::new()]);
    let (minted, burnt) = (alpha(balances.minted_micros), alpha(balances.burnt_micros));
    format!("{}minted      {minted} ALPHA, {burnt} of it burnt\n", table(&rows))
}
