//! `templar key`: the public half of the home's key, and what a validator puts into a genesis.

use serde_json::json;
use templar_manifest::chain::Chain;
use templar_node::home::Home;

use crate::error::{Code, CommandResult};
use crate::invocation::Invocation;

/// The key of the home
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print the public key, or the anchor of its hash chain
    Show(Show),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// Print the anchor of the hash chain for a run of this name: what `run new --validator` takes
    #[arg(long, value_name = "NAME")]
    anchor: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, command: &Command) -> CommandResult {
    let Command::Show(args) = command;
    let key = Home::open(invocation.root()?)?.key()?;
    let public = key.public();
    match &args.anchor {
        None => invocation.printer.data(&json!({"key": public}), public),
        Some(name) => {
            let anchor = Chain::new(&key, name).anchor();
            invocation.printer.data(&json!({"key": public, "name": name, "anchor": anchor}), anchor);
        }
    }
    Ok(Code::Ok)
}
