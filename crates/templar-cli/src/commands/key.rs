//! `templar key`: the home's key, an owner's key beside it, and which of them trains.

use std::path::PathBuf;

use serde_json::json;
use templar_home::registration::Application;
use templar_home::{Home, read_key, write_key};
use templar_manifest::chain::Chain;
use templar_manifest::{Certificate, Payment};
use templar_protocol::RegistrationError;

use super::init::random_key;
use super::register;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::{Invocation, run_context};
use crate::network::Listen;

/// The key of the home
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print the public key, or the anchor of its hash chain
    Show(Show),
    /// Make an owner's key in a file of its own, for a place where no node runs
    New(New),
    /// Let this home's key train for an owner that has a slot, in the place of the key that does
    ///
    /// Takes effect in the window after the one whose cut names it. The owner's key is needed for this alone.
    Rotate(Rotate),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// Print the anchor of the hash chain for a run of this name: what `run new --validator` takes
    #[arg(long, value_name = "NAME")]
    anchor: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct New {
    /// The file; it must not be there yet
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rotate {
    /// The file of the owner's key
    #[arg(long, value_name = "FILE")]
    owner: PathBuf,
    #[command(flatten)]
    listen: Listen,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, command: &Command) -> CommandResult {
    match command {
        Command::Show(args) => show(invocation, args),
        Command::New(args) => new(invocation, args),
        Command::Rotate(args) => rotate(invocation, args),
    }
}

fn new(invocation: &Invocation, args: &New) -> CommandResult {
    let key = random_key()?;
    write_key(&args.file, &key)?;
    let public = key.public();
    invocation.printer.data(&json!({"key": public, "file": args.file}), public);
    invocation.printer.talk("who has this file owns what it registers; keep it where no node runs");
    Ok(Code::Ok)
}

fn rotate(invocation: &Invocation, args: &Rotate) -> CommandResult {
    let access = invocation.read()?;
    let context = run_context(&access, args.run.as_deref())?;
    let (key, owner) = (access.home.key()?, read_key(&args.owner)?);
    let node = register::current(invocation, &access, &context, &key, &args.listen)?;
    let anchor = register::newest(&node)?.window;
    let (owner_key, me) = (owner.public(), key.public());
    let certificate = Certificate { owner: owner_key, node: me, anchor, payment: Payment::Rotation };
    let application = Application::new(context.run, certificate, &owner);
    let registration = application.registration(node.state().window());
    node.state().check_registration(&registration).map_err(|error| match error {
        RegistrationError::NotAMember(_) => {
            CommandError::new(Code::Failed, error).hint("`templar register --owner FILE` asks for a slot")
        }
        RegistrationError::Older { .. } => CommandError::new(Code::Failed, error)
            .hint("a slot's key changes once in a window; try again in the next one"),
        error => CommandError::new(Code::Failed, error),
    })?;
    access.apply(&application)?;
    register::show(invocation, access, context, key, &application)?;
    Ok(Code::Ok)
}

fn show(invocation: &Invocation, args: &Show) -> CommandResult {
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
