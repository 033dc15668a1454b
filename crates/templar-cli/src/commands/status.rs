//! `templar status`: where the run stands.

use serde_json::json;
use templar_node::journal::Journal;
use templar_protocol::Ledger;
use templar_train::nats;

use crate::error::{Code, CommandResult};
use crate::invocation::{Invocation, run_context};
use crate::printer::{alpha, table};
use crate::progress::{Progress, awaited_json, awaited_line};

/// Print where the run stands: the open window, who is awaited, the model, the balances
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
    let (phase, awaited) = (progress.phase(genesis), progress.awaited(genesis));
    let loss = node.closed().last().map(|closed| nats(closed.window.held_out_loss_nanonats));
    let contributed: Vec<_> = progress.contributions.keys().collect();
    let value = json!({
        "run": context.run, "name": genesis.name, "window": state.window(), "phase": phase,
        "windows": genesis.windows, "contributed": contributed, "awaited": awaited_json(&awaited),
        "checkpoint": state.checkpoint(), "record": state.record(), "held_out_loss": loss,
        "balances": balances_json(state.ledger()),
    });
    let mut text = format!("run         {} ({})\n", context.run.short(), genesis.name);
    if progress.is_over {
        text.push_str(&format!("window      the run is over after {} windows\n", state.window()));
    } else {
        let of = if genesis.windows == 0 { String::new() } else { format!(" of {}", genesis.windows) };
        let miners = genesis.miners().len();
        text.push_str(&format!("window      {}{of} is open: {phase}\n", state.window()));
        text.push_str(&format!("contributed {} of {miners} miners\n", contributed.len()));
        text.push_str(&format!("awaited     {}\n", awaited_line(&awaited)));
    }
    text.push_str(&format!("checkpoint  {}\n", state.checkpoint().short()));
    if let Some(loss) = loss {
        text.push_str(&format!("held-out    {loss:.4} nats\n"));
    }
    text.push_str(&balances(state.ledger()));
    invocation.printer.data(&value, text);
    Ok(Code::Ok)
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
