//! `templar train`: trains the open window, or trains a closed one again and compares.
//!
//! Interrupted training resumes from its last snapshot and ends in the same contribution. All blobs are on the
//! disk before the contribution that names them is signed.

mod lacking;
mod reproduce;
mod step_log;

use serde_json::json;
use templar_home::memory::Silence;
use templar_home::replica::SubmitError;
use templar_manifest::{Contribution, Hash, PublicKey, State, WindowIndex, payload};
use templar_node::executor::{StartingState, TrainRequest, WorkError};
use templar_query::reference::parse_window;
use templar_train::nats;

use self::step_log::StepLog;
use super::fetch::fetch_hint;
use crate::compute::Compute;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::network::Listen;
use crate::printer::{Printer, bytes, count};
use crate::session::RunSession;
use crate::signals::stop_flag;

/// Train a window and sign the contribution; a closed window is trained again and compared
///
/// Interrupted training resumes. For a closed window, the result must have the recorded hashes: the answer is
/// `match`, or `mismatch` (exit code 4) with the first difference.
#[derive(Debug, clap::Args)]
pub(crate) struct TrainArgs {
    /// The window: its number, such as 3
    #[arg(long, value_name = "N", value_parser = parse_window)]
    window: WindowIndex,
    /// Take this number of inner steps; the run sets the maximum
    #[arg(long, value_name = "K")]
    steps: Option<u32>,
    /// Start from the zero state, like a new miner. Use only if the last recorded state is lost for good
    #[arg(long, conflicts_with = "miner")]
    anew: bool,
    /// For a closed window: train the contribution of this miner again [default: this home's]
    #[arg(long, value_name = "KEY")]
    miner: Option<PublicKey>,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    listen: Listen,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, args: &TrainArgs) -> CommandResult {
    args.compute.choose(invocation)?;
    let mut session = RunSession::open(invocation, args.run.as_deref())?;
    let me = session.miner();
    if !session.is_open(args.window)? {
        return reproduce::run(invocation, &session, args.window, args.miner.unwrap_or(me));
    }
    if let Some(other) = args.miner.filter(|miner| *miner != me) {
        let text =
            format!("window {} is open, so only {} itself can train its contribution", args.window, other.short());
        return Err(CommandError::says(Code::Usage, text));
    }
    // A key that is in use elsewhere says nothing from here, not even what it said before.
    if let Err(silence @ Silence::Elsewhere(_)) = session.replica.may_sign() {
        return Err(SubmitError::from(silence).into());
    }
    let node = session.node();
    let mine = node.contributions().find(|signed| signed.payload().miner == me);
    if let Some(signed) = mine {
        print(&invocation.printer, &session, signed.payload(), true);
        return Ok(Code::Ok);
    }
    if node.cut().is_some() {
        let text =
            format!("the commitments of window {} were closed without a contribution from this home", args.window);
        return Err(CommandError::says(Code::Failed, text).hint("the next window opens when this one is closed"));
    }
    // A contribution that cannot be signed is not worth training, unless it may be the one that was signed and lost.
    if let Err(silence @ Silence::Listening) = session.replica.may_sign() {
        return Err(SubmitError::from(silence).into());
    }
    let networking = args.listen.networking(invocation, &session.access.home, &[])?;
    lacking::bring(invocation, &mut session, &networking)?;
    let contribution = train(invocation, &session, args)?;
    session.sync(&named_blobs(&session, &contribution)?)?;
    session.replica.contribute(contribution.clone())?;
    session.executor.forget_snapshot(args.window);
    print(&invocation.printer, &session, &contribution, false);
    Ok(Code::Ok)
}

fn train(invocation: &Invocation, session: &RunSession, args: &TrainArgs) -> Result<Contribution, CommandError> {
    let steps = args.steps.unwrap_or(session.replica.context.genesis.inner.steps);
    let interrupted = stop_flag();
    let mut watch = StepLog::new(invocation.printer, args.window, Some(interrupted));
    // This process serves no blobs, so it need not hide the new ones.
    let gate = |_: Vec<Hash>| {};
    let from = if args.anew {
        StartingState::Zero
    } else {
        recover(invocation, session)?;
        StartingState::Recorded
    };
    let state = session.state();
    let request = TrainRequest { from, ..TrainRequest::honest(&state, session.miner(), steps) };
    let trained = session.executor.train(request, &mut watch, &gate);
    trained.map_err(|error| match error {
        WorkError::Train(templar_train::TrainError::Task(what)) => CommandError::says(Code::Usage, what),
        WorkError::Stopped => {
            CommandError::from(error).hint(format!("the same command goes on from step {}", watch.taken))
        }
        error if error.missing().is_some() => CommandError::from(error).hint(fetch_hint(args.window)),
        error => error.into(),
    })
}

/// Makes sure that the state after this home's last recorded contribution is here; derives it by replay if it
/// is lost.
fn recover(invocation: &Invocation, session: &RunSession) -> Result<(), CommandError> {
    let recovered = session.executor.recover_state(&session.node(), &session.miner());
    let recovered = recovered.map_err(|error| match error.missing() {
        Some(_) => CommandError::from(error).hint(
            "`templar fetch` fetches the windows that the state follows from, if peers have them; `--anew` restarts without the \
             saved state, and the miner's rating becomes uncertain",
        ),
        None => error.into(),
    })?;
    if recovered > 0 {
        let replayed = count(recovered as u64, "contribution");
        invocation
            .printer
            .warn(format_args!("this home had lost its training state; it was derived again by replaying {replayed}"));
    }
    Ok(())
}

/// Every blob that a contribution names.
fn named_blobs(session: &RunSession, contribution: &Contribution) -> Result<Vec<Hash>, CommandError> {
    let state: State = session.executor.inputs()?.manifest(&contribution.state_out.hash())?;
    let mut named = vec![contribution.delta.hash(), contribution.trace.hash(), contribution.state_out.hash()];
    named.extend(state.tensors.iter().map(|tensor| tensor.blob.hash()));
    Ok(named)
}

fn print(printer: &Printer, session: &RunSession, contribution: &Contribution, before: bool) {
    let id = Hash::of(&payload::encode(contribution));
    let parameters = session.replica.context.recipe.parameter_count() as f64;
    let (length, loss) = (contribution.delta_bytes as f64, nats(contribution.loss_nanonats));
    let (fp32, bf16) = (parameters * 4.0 / length, parameters * 2.0 / length);
    let value = json!({
        "type": "result", "window": contribution.window, "miner": contribution.miner, "contribution": id,
        "delta": contribution.delta, "delta_bytes": contribution.delta_bytes, "trace": contribution.trace,
        "trace_bytes": contribution.trace_bytes, "state_out": contribution.state_out, "steps": contribution.steps,
        "tokens": contribution.tokens, "loss": loss, "ratio_fp32": fp32, "ratio_bf16": bf16, "already": before,
    });
    let text = format!(
        "contribution {id}\ndelta        {}\nbytes        {} ({fp32:.0}x smaller than fp32, {bf16:.0}x than bf16)\nloss         {loss:.4}",
        contribution.delta, contribution.delta_bytes
    );
    printer.data(&value, text);
    if before {
        printer.talk(format_args!("this home has already contributed to window {}", contribution.window));
    } else {
        printer.talk(format_args!(
            "window {} is trained: {} to send",
            contribution.window,
            bytes(contribution.delta_bytes)
        ));
    }
}
