//! `templar key`: the node key (hotkey) of the home, and owner keys (coldkeys) in files of their own.

mod issue;

use std::path::PathBuf;

use serde_json::json;
use templar_home::registration::Application;
use templar_home::replica::Replica;
use templar_home::{Home, read_key, write_key};
use templar_manifest::chain::Chain;
use templar_manifest::{Certificate, Hash, Payment, SecretKey};
use templar_node::peers;
use templar_protocol::RegistrationError;
use templar_query::find::run_context;

use super::init::{random_bytes, random_key};
use super::register;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::network::Listen;
use crate::printer::path_text;

/// Show the node key of the home; make and use an owner key
#[derive(Debug, clap::Subcommand)]
pub(crate) enum KeyCommand {
    /// Print the public key of this home, or make a hash chain for a validator
    Show(ShowKeyArgs),
    /// Make an owner key (coldkey) in a file of its own, to keep where no node runs
    New(NewKeyArgs),
    /// Let this home train for an owner that has a slot, instead of the node that does now
    ///
    /// Takes effect one window after a cut contains it. The owner key is not needed again afterwards.
    Rotate(RotateArgs),
    /// Let this home sign again after its key was heard elsewhere, or after it lost entries that it had signed
    ///
    /// Stop every other node that uses the key first. Two statements of one key where one is allowed are evidence, and
    /// cost its unvested pay and its slot. The home first asks a peer what its key has signed.
    Reclaim(ReclaimArgs),
    Issue(issue::IssueKeyArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReclaimArgs {
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowKeyArgs {
    /// Make a hash chain for a run of this name and print its anchor; `run new --validator` takes it
    ///
    /// The chain begins with fresh random bytes each time. The home keeps them in `chains/`: back that up, since a
    /// validator without them cannot reveal.
    #[arg(long, value_name = "NAME")]
    anchor: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct NewKeyArgs {
    /// The file to write; it must not exist yet
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RotateArgs {
    /// The file of the owner key
    #[arg(long, value_name = "FILE")]
    owner: PathBuf,
    #[command(flatten)]
    listen: Listen,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, command: &KeyCommand) -> CommandResult {
    match command {
        KeyCommand::Show(args) => show(invocation, args),
        KeyCommand::New(args) => new(invocation, args),
        KeyCommand::Rotate(args) => rotate(invocation, args),
        KeyCommand::Reclaim(args) => reclaim(invocation, args),
        KeyCommand::Issue(args) => issue::run(invocation, args),
    }
}

fn reclaim(invocation: &Invocation, args: &ReclaimArgs) -> CommandResult {
    let access = invocation.write()?;
    let context = run_context(&access, args.run.as_deref())?;
    let key = access.home.key()?;
    let (run, public) = (context.run, key.public());
    let has_peers = !peers::load(&access.home)?.is_empty();
    let mut replica = Replica::open(&access.home, context, key)?;
    replica.reclaim(has_peers)?;
    let asks = replica.may_sign().is_err();
    invocation.printer.data(&json!({"key": public, "run": run, "asks_peers": asks}), public);
    invocation.printer.talk(match asks {
        true => "this home signs again after `templar fetch @` or a node has asked a peer what the key has signed",
        false => "this home signs again; it knows no peer that could have heard the key",
    });
    Ok(Code::Ok)
}

fn new(invocation: &Invocation, args: &NewKeyArgs) -> CommandResult {
    let key = random_key()?;
    write_key(&args.file, &key)?;
    let public = key.public();
    invocation.printer.data(&json!({"key": public, "file": path_text(&args.file)}), public);
    invocation.printer.talk("this file owns the slots and the pay that it registers for; keep it where no node runs");
    Ok(Code::Ok)
}

fn rotate(invocation: &Invocation, args: &RotateArgs) -> CommandResult {
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
            CommandError::new(Code::Failed, error).hint("`templar register --owner FILE` applies for a slot")
        }
        RegistrationError::Older { .. } => CommandError::new(Code::Failed, error)
            .hint("the node key of a slot can change once a window; try again in the next one"),
        error => CommandError::new(Code::Failed, error),
    })?;
    access.apply(&application)?;
    register::show(invocation, access, context, key, &application)?;
    Ok(Code::Ok)
}

fn show(invocation: &Invocation, args: &ShowKeyArgs) -> CommandResult {
    let home = Home::open(invocation.root()?)?;
    let key = home.key()?;
    let public = key.public();
    match &args.anchor {
        None => invocation.printer.data(&json!({"key": public}), public),
        Some(name) => {
            let anchor = new_chain(&home, &key, name)?;
            invocation.printer.data(&json!({"key": public, "name": name, "anchor": anchor}), anchor);
        }
    }
    Ok(Code::Ok)
}

/// Makes a hash chain for one run, keeps it in the home, and returns its anchor.
pub(crate) fn new_chain(home: &Home, key: &SecretKey, name: &str) -> Result<Hash, CommandError> {
    let chain = if home.is_insecure() { Chain::insecure(key, name) } else { Chain::new(random_bytes()?) };
    Ok(home.keep_chain(&chain)?)
}
