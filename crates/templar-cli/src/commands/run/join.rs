//! `templar run join`: fetches the basic data of a run from peers.

use serde_json::json;
use templar_net::Ticket;

use crate::error::{Code, CommandResult};
use crate::invocation::Invocation;
use crate::network::{Listen, join};

/// Join a run with a ticket: fetch its genesis, dataset and tokenizer, and make it the current one
#[derive(Debug, clap::Args)]
pub(crate) struct JoinArgs {
    /// The ticket that `templar share` or a node printed
    ticket: String,
    #[command(flatten)]
    listen: Listen,
}

pub(crate) fn run(invocation: &Invocation, args: &JoinArgs) -> CommandResult {
    let ticket: Ticket = args.ticket.parse()?;
    let access = invocation.write()?;
    let networking = args.listen.networking(invocation, &access.home, &ticket.peers)?;
    let context = join(&access, &networking, &ticket, invocation.printer)?;
    let me = access.home.key()?.public();
    // Of the members, those that genesis names are known now.
    let is_member = context.first_state()?.members().by_node(&me).is_some();
    let role = match (is_member, context.genesis.validator(&me).is_some()) {
        (true, true) => "miner and validator",
        (true, false) => "miner",
        (false, true) => "validator",
        (false, false) => "follower",
    };
    let value = json!({"run": context.run, "name": context.genesis.name, "role": role});
    invocation.printer.data(&value, context.run);
    invocation.printer.talk(format_args!("joined {:?} as {role}", context.genesis.name));
    invocation.printer.talk(match role {
        "follower" => "next: `templar register` applies for a slot, and `templar node --role miner` trains",
        "miner" => "next: `templar node --role miner` trains, window after window",
        _ => "next: `templar node --role validator` checks and closes windows",
    });
    invocation.printer.talk("`templar fetch @` fetches the current model; `templar status` says where the run stands");
    Ok(Code::Ok)
}
