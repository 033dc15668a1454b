//! `templar key issue`: keys for the clients of `templar serve`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use templar_home::{Home, read_key};
use templar_manifest::PublicKey;
use templar_serve::{Allowance, KeyTerms, issue};

use crate::error::{Code, CommandResult};
use crate::invocation::Invocation;

const DAY: Duration = Duration::from_secs(86_400);

/// Sign a key with which a client may ask `templar serve`
///
/// A server lets it in whose file of --api-keys names the signer's public key as `issuer`. Prints the key, which
/// anybody who has it can use. Its holder can hand it on, with no more than it allows.
#[derive(Debug, clap::Args)]
pub(crate) struct IssueKeyArgs {
    /// Sign with the key in this file instead of the node key of the home
    #[arg(long, value_name = "FILE")]
    signer: Option<PathBuf>,
    /// Hand on this key, which was issued to the signer
    #[arg(long, value_name = "KEY")]
    under: Option<String>,
    /// The public key of who can hand the new key on [default: the signer]
    #[arg(long, value_name = "KEY")]
    holder: Option<PublicKey>,
    /// Requests that it may make in a minute [default: no limit]
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<u32>,
    /// Tokens that it may use in a day, of prompts and of answers [default: no limit]
    #[arg(long, value_name = "N")]
    tokens_per_day: Option<u64>,
    /// Days for which it is valid
    #[arg(long, value_name = "N", default_value_t = 30)]
    days: u16,
}

pub(super) fn run(invocation: &Invocation, args: &IssueKeyArgs) -> CommandResult {
    let signer = match &args.signer {
        Some(file) => read_key(file)?,
        None => Home::open(invocation.root()?)?.key()?,
    };
    let allowance = Allowance { requests_per_minute: args.requests_per_minute, tokens_per_day: args.tokens_per_day };
    let terms = KeyTerms { allowance, holder: args.holder, lasts: Some(DAY * u32::from(args.days)) };
    let issued = issue(&signer, args.under.as_deref(), &terms)?;
    invocation.printer.data(&json!({"key": issued.key, "id": issued.id, "signer": signer.public()}), &issued.key);
    invocation
        .printer
        .talk(format_args!("a server refuses it once its file of keys has {} under `revoked`", issued.id));
    Ok(Code::Ok)
}
