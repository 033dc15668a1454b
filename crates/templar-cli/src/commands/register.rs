//! `templar register`: applies for a slot, paid with proof of work or by burning tokens. No member can refuse it.
//!
//! The command makes the owner's certificate and ends. The node of this home submits it in each window until it is
//! accepted; `templar status` shows the result.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use templar_home::access::Access;
use templar_home::context::RunContext;
use templar_home::read_key;
use templar_home::registration::Application;
use templar_home::replica::{Replica, SubmitError};
use templar_manifest::{Certificate, Payment, PublicKey, SecretKey, WorkHasher, largest_digest};
use templar_node::exchange::{self, Wanted};
use templar_node::peers;
use templar_protocol::{Anchor, Node};
use templar_query::find::run_context;

use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::network::{Listen, destination};
use crate::printer::{Printer, alpha, amount};
use crate::signals::stop_flag;

/// The time that peers get to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time between two lines about the progress of the work.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// The number of nonces that a thread tries before it checks whether to stop.
const NONCES: u64 = 1 << 14;

/// Apply for a slot in the run: with a slot, this home's node trains and is paid
///
/// A slot is paid with proof of work (a hash with enough leading zeros, searched on all cores) or by burning
/// ALPHA of the owner's account. No member can refuse it. Your node resubmits the registration each window
/// until accepted; without a running node, the next one you start does. The proof of work is valid for several
/// windows. The price rises with each registration and falls with each window.
#[derive(Debug, clap::Args)]
pub(crate) struct RegisterArgs {
    /// Pay with proof of work (the default)
    #[arg(long, conflicts_with = "burn")]
    hashcash: bool,
    /// Burn this amount of ALPHA of the owner's account [without a value: the current price]. Higher amounts go first
    #[arg(long, value_name = "ALPHA", num_args = 0..=1, value_parser = micros)]
    burn: Option<Option<u64>>,
    /// The file of the owner key (coldkey) that will own the slot and its pay [default: this home's own key]
    #[arg(long, value_name = "FILE")]
    owner: Option<PathBuf>,
    #[command(flatten)]
    listen: Listen,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

/// Reads an amount of ALPHA with at most six decimals, and gives it in micro-ALPHA.
fn micros(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not an amount: expected a number with at most six decimals");
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 6 || !decimals.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let part: u64 = format!("{decimals:0<6}").parse().map_err(|_| wrong())?;
    whole
        .checked_mul(1_000_000)
        .and_then(|whole| whole.checked_add(part))
        .filter(|amount| *amount > 0)
        .ok_or_else(wrong)
}

pub(crate) fn run(invocation: &Invocation, args: &RegisterArgs) -> CommandResult {
    let access = invocation.read()?;
    let context = run_context(&access, args.run.as_deref())?;
    let node_key = access.home.key()?;
    let owner = match &args.owner {
        Some(path) => read_key(path)?,
        None => node_key.clone(),
    };
    let node = current(invocation, &access, &context, &node_key, &args.listen)?;
    let me = node_key.public();
    if let Some(member) = node.state().members().by_node(&me) {
        print_member(invocation, member.owner, member.slot, member.since.0);
        return Ok(Code::Ok);
    }
    let anchor = newest(&node)?;
    let certificate = |payment| Certificate { owner: owner.public(), node: me, anchor: anchor.window, payment };
    // Report other obstacles before spending minutes on the work.
    if let Some(member) = node.state().members().by_owner(&owner.public()) {
        let text = format!("{} already has slot {}", member.owner.short(), member.slot);
        let hint = "`templar key rotate --owner FILE` lets this home's key train for it";
        return Err(CommandError::says(Code::Failed, text).hint(hint));
    }
    let payment = match args.burn {
        Some(asked) => Payment::Burn { amount_micros: asked.unwrap_or(node.state().members().burn_micros()) },
        None => {
            let hasher = WorkHasher::new(context.run, anchor.window, &anchor.seed, &owner.public(), &me);
            work(invocation.printer, hasher, node.state().members().hashes())?
        }
    };
    let application = Application::new(context.run, certificate(payment), &owner);
    node.state().check_registration(&application.registration(node.state().window())).map_err(|error| {
        let error = CommandError::new(Code::Failed, error);
        let hint = "`templar status` prints prices and balances; --hashcash pays with work";
        if args.burn.is_some() { error.hint(hint) } else { error }
    })?;
    access.apply(&application)?;
    show(invocation, access, context, node_key, &application)?;
    Ok(Code::Ok)
}

/// The current state of the run, from the node that runs in this home, or otherwise from peers.
pub(super) fn current(
    invocation: &Invocation,
    access: &Access,
    context: &RunContext,
    key: &SecretKey,
    listen: &Listen,
) -> Result<Node, CommandError> {
    if !access.is_beside_a_node() && !peers::load(&access.home)?.is_empty() {
        let networking = listen.networking(invocation, &access.home, &[])?;
        let mut replica = Replica::open(&access.home, context.clone(), key.clone())?;
        let to = destination(access, &networking)?;
        invocation.printer.talk("asking known peers for the state of the run");
        let visit = exchange::visit(&to, &mut replica, &[], Wanted::Entries, PATIENCE);
        if access.runtime().block_on(visit)?.peers == 0 {
            invocation.printer.warn(
                "no known peer answered: if the run has moved on, the registration may be too old when it is submitted",
            );
        }
    }
    Ok(access.fold(context)?)
}

/// The anchor for a new certificate: the start of the open window.
pub(super) fn newest(node: &Node) -> Result<Anchor, CommandError> {
    let anchor = node.state().members().newest_anchor().filter(|_| !node.is_over()).copied();
    anchor.ok_or_else(|| CommandError::says(Code::NotFound, "the run is over"))
}

/// Prints the application. Without a running node, the registration for the open window also goes into the
/// journal, so that `share` and `close` in this home include it.
pub(super) fn show(
    invocation: &Invocation,
    access: Access,
    context: RunContext,
    key: SecretKey,
    application: &Application,
) -> Result<(), CommandError> {
    let beside = access.is_beside_a_node();
    if !beside {
        let mut replica = Replica::open(&access.home, context, key)?;
        match replica.register(application) {
            // The rules may refuse it now, for example after the cut. A node then submits it in the next window.
            Ok(_) | Err(SubmitError::Reject(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let Certificate { owner, node, anchor, payment } = application.certificate;
    let value = json!({
        "type": "result", "owner": owner, "node": node, "anchor": anchor, "payment": payment, "handed_to_node": beside,
    });
    let paid = match payment {
        Payment::Hashcash { nonce } => format!("work: nonce {nonce}"),
        Payment::Burn { amount_micros } => format!("{} ALPHA, burnt on acceptance", alpha(amount_micros)),
        Payment::Rotation => "nothing: the owner has a slot".to_owned(),
    };
    invocation
        .printer
        .data(&value, format_args!("owner   {owner}\nnode    {node}\nanchor  window {anchor}\npaid    {paid}"));
    invocation.printer.talk(if beside {
        "your node resubmits the registration each window until accepted; `templar status` shows its progress"
    } else {
        "`templar node --role miner` submits the registration each window until accepted, and then trains"
    });
    Ok(())
}

fn print_member(invocation: &Invocation, owner: PublicKey, slot: u32, since: u64) {
    let value = json!({"type": "result", "owner": owner, "slot": slot, "since": since, "already": true});
    invocation.printer.data(&value, format_args!("owner   {owner}\nslot    {slot}, since window {since}"));
    invocation.printer.talk("this home already has a slot");
}

/// Searches for a nonce on all cores. Every hash has the same chance, so a search that starts again is no worse
/// off than one that goes on.
fn work(printer: Printer, hasher: WorkHasher, hashes: u64) -> Result<Payment, CommandError> {
    let interrupted = stop_flag();
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get()) as u64;
    let (tried, found) = (AtomicU64::new(0), AtomicBool::new(false));
    let limit = largest_digest(hashes);
    let started = now();
    printer.talk(format_args!(
        "searching for proof of work: {} hashes on average, on {threads} threads",
        amount(hashes as f64)
    ));
    let nonce = std::thread::scope(|scope| {
        let search = |first: u64| {
            let (hasher, tried, found, interrupted) = (&hasher, &tried, &found, &interrupted);
            move || {
                let mut next = first * NONCES;
                while !found.load(Ordering::Relaxed) && !interrupted.load(Ordering::Relaxed) {
                    let hit = (next..next + NONCES).find(|nonce| hasher.digest(*nonce) <= limit);
                    tried.fetch_add(NONCES, Ordering::Relaxed);
                    if hit.is_some() {
                        found.store(true, Ordering::Relaxed);
                        return hit;
                    }
                    next += NONCES * threads;
                }
                None
            }
        };
        let workers: Vec<_> = (0..threads).map(|first| scope.spawn(search(first))).collect();
        let mut told = started;
        while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::park_timeout(Duration::from_millis(50));
            if told.elapsed() >= TELL_EVERY {
                told = now();
                tell(&printer, tried.load(Ordering::Relaxed), hashes, started.elapsed());
            }
        }
        workers.into_iter().find_map(|worker| worker.join().ok().flatten())
    });
    let (tried, seconds) = (tried.load(Ordering::Relaxed), started.elapsed().as_secs_f64());
    let Some(nonce) = nonce else {
        let error = CommandError::says(Code::Interrupted, "interrupted before the proof of work was found");
        return Err(error.hint(
            "run the same command again; an interrupted search loses no progress, since every hash has the same chance",
        ));
    };
    printer.talk(format_args!("found after {} hashes in {seconds:.1} s", amount(tried as f64)));
    Ok(Payment::Hashcash { nonce })
}

fn tell(printer: &Printer, tried: u64, hashes: u64, elapsed: Duration) {
    let seconds = elapsed.as_secs_f64();
    let rate = tried as f64 / seconds.max(1e-9);
    let line = format!(
        "{} hashes in {seconds:.0} s, {}/s; about {:.0} s to go on average",
        amount(tried as f64),
        amount(rate),
        hashes as f64 / rate.max(1.0)
    );
    printer.progress(&json!({"type": "work", "hashes": tried, "expected": hashes, "seconds": seconds}), line);
}

/// The time, for the rate in a progress line.
#[allow(clippy::disallowed_methods, reason = "the rate in a line decides nothing")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_six_decimals_at_most() {
        assert_eq!(micros("2"), Ok(2_000_000));
        assert_eq!(micros("0.5"), Ok(500_000));
        assert_eq!(micros("12.000001"), Ok(12_000_001));
        for text in
            ["", "0", "0.0", "-1", "1.0000001", "x", "1.x", ".", "1e3", "99999999999999999999", "18446744073710"]
        {
            assert!(micros(text).is_err(), "{text}");
        }
    }
}
