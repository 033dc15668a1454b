//! `templar status`: where the run stands.

use serde_json::{Value, json};
use templar_home::journal::Journal;
use templar_home::registration::{Application, ApplicationStatus};
use templar_manifest::PublicKey;
use templar_protocol::{Ledger, Node, RunState};
use templar_train::nats;

use crate::error::{Code, CommandResult};
use crate::invocation::{Invocation, run_context};
use crate::printer::{alpha, amount, table};
use crate::progress::{Progress, awaited_json, awaited_line};

/// Print where the run stands: the open window, who is awaited, slots, the model, the balances
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, args: &Args) -> CommandResult {
    let access = invocation.read()?;
    let context = run_context(&access, args.run.as_deref())?;
    let records = Journal::read(&access.home.run_dir(&context.run))?;
    let node = context.fold(None, &records)?;
    let progress = Progress::of(&node, &records);
    let (genesis, state) = (&context.genesis, node.state());
    let (phase, awaited) = (progress.phase(genesis), progress.awaited(state));
    let loss = node.closed().last().map(|closed| nats(closed.window.held_out_loss_nanonats));
    let contributed: Vec<_> = progress.contributions.keys().collect();
    let application = Application::kept(&access.home, &context.run)?;
    let membership = Membership::of(&node, access.home.key()?.public(), application);
    let value = json!({
        "run": context.run, "name": genesis.name, "window": state.window(), "phase": phase,
        "windows": genesis.windows, "contributed": contributed, "awaited": awaited_json(&awaited),
        "members": members_json(state), "registration": membership.value,
        "checkpoint": state.checkpoint(), "record": state.record(), "held_out_loss": loss,
        "balances": balances_json(state.ledger()),
    });
    let mut text = format!("run         {} ({})\n", context.run.short(), genesis.name);
    if progress.is_over {
        text.push_str(&format!("window      the run is over after {} windows\n", state.window()));
    } else {
        let of = if genesis.windows == 0 { String::new() } else { format!(" of {}", genesis.windows) };
        text.push_str(&format!("window      {}{of} is open: {phase}\n", state.window()));
        text.push_str(&format!("contributed {} of {} members\n", contributed.len(), state.members().len()));
        text.push_str(&format!("awaited     {}\n", awaited_line(&awaited)));
    }
    text.push_str(&membership.lines);
    text.push_str(&format!("checkpoint  {}\n", state.checkpoint().short()));
    if let Some(loss) = loss {
        text.push_str(&format!("held-out    {loss:.4} nats\n"));
    }
    text.push_str(&balances(state.ledger()));
    invocation.printer.data(&value, text);
    Ok(Code::Ok)
}

/// Slots, prices, and this home's part.
struct Membership {
    value: Value,
    lines: String,
}

impl Membership {
    fn of(node: &Node, me: PublicKey, application: Option<Application>) -> Self {
        let (genesis, members) = (node.state().genesis(), node.state().members());
        let (slots, hashes, burn_micros) = (genesis.registration.slots, members.hashes(), members.burn_micros());
        let mut lines = format!(
            "slots       {} of {slots} taken; one costs work of {} hashes or {} ALPHA\n",
            members.len(),
            amount(hashes as f64),
            alpha(burn_micros)
        );
        let member = members.by_node(&me);
        if let Some(member) = member {
            let (slot, since) = (member.slot, member.since);
            let of = if member.owner == me { String::new() } else { format!(" of {}", member.owner.short()) };
            lines.push_str(&format!("this home   trains in slot {slot}{of} since window {since}\n"));
        }
        let progress = application.map(|application| match application.progress(node) {
            ApplicationStatus::Counts(_) => "counts",
            ApplicationStatus::Wait => "shown in this window",
            ApplicationStatus::Ask => "to be shown by a node in this window",
            ApplicationStatus::Stale => "too old; `templar register` makes another",
        });
        if let (Some(application), Some(progress)) = (application, progress) {
            lines.push_str(&format!("registered  for {}: {progress}\n", application.owner().short()));
        }
        let value = json!({
            "slots": slots, "members": members.len(), "hashes": hashes, "burn_micros": burn_micros,
            "slot": member.map(|member| member.slot), "owner": member.map(|member| member.owner), "application": progress,
        });
        Self { value, lines }
    }
}

/// Who has which slot.
fn members_json(state: &RunState) -> Value {
    let members = state.members().iter();
    members
        .map(|member| {
            json!({
                "slot": member.slot, "owner": member.owner, "node": member.node, "since": member.since,
                "merit_nanos": member.merit_nanos,
            })
        })
        .collect()
}

fn balances(ledger: &Ledger) -> String {
    if ledger.accounts().is_empty() {
        return String::new();
    }
    let mut rows = vec![["account", "free", "vesting"].map(str::to_owned).to_vec()];
    for (key, account) in ledger.accounts() {
        rows.push(vec![key.short(), alpha(account.free_micros()), alpha(account.vesting_micros())]);
    }
    rows.push(vec!["treasury".to_owned(), alpha(ledger.treasury_micros()), String::new()]);
    let (minted, burnt) = (alpha(ledger.minted_micros()), alpha(ledger.burnt_micros()));
    format!("{}minted      {minted} ALPHA, {burnt} of it burnt\n", table(&rows))
}

fn balances_json(ledger: &Ledger) -> serde_json::Value {
    let accounts: Vec<_> = ledger
        .accounts()
        .iter()
        .map(|(key, account)| {
            json!({"account": key, "free_micros": account.free_micros(), "vesting_micros": account.vesting_micros()})
        })
        .collect();
    json!({
        "accounts": accounts, "treasury_micros": ledger.treasury_micros(), "minted_micros": ledger.minted_micros(),
        "burnt_micros": ledger.burnt_micros(), "root": ledger.root(),
    })
}
