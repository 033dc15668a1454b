//! `templar status`: the state of a run, the members that are awaited, and the account of this home.

mod names;

use std::time::Duration;

use templar_home::context::RunContext;
use templar_manifest::{Genesis, Hash, PublicKey, WindowIndex, WorkHasher};
use templar_node::peers as known;
use templar_query::find::run_context;
use templar_query::participation::{Awaited, WindowStage};
use templar_query::status::{ApplicationProgress, RunStatus};

use self::names::Names;
use crate::error::{Code, CommandResult};
use crate::invocation::Invocation;
use crate::printer::{Printer, about_alpha, alpha, amount, count, span, table};

/// The number of hashes that are computed to measure the speed of this machine: some milliseconds.
const MEASURED_HASHES: u64 = 1 << 15;

/// Print the state of the run: the open window and the members it waits for, your part, the model, balances
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
    let me = access.home.key().ok().map(|key| key.public());
    let names = Names { genesis: &context.genesis, members: &status.members, me };
    let report = Report { status: &status, context: &context, names: &names };
    let known_peers = known::load(&access.home).map_or(0, |peers| peers.len());
    invocation.printer.document(&status, report.text(invocation.printer, known_peers));
    Ok(Code::Ok)
}

/// The awaited members on one line, such as `contribution of 3f…, score of 9a…`.
pub(crate) fn awaited_line(awaited: &[Awaited]) -> String {
    let parts: Vec<String> = awaited.iter().map(|one| format!("{} of {}", one.what.name(), one.key.short())).collect();
    parts.join(", ")
}

/// The status for a person.
struct Report<'a> {
    status: &'a RunStatus,
    context: &'a RunContext,
    names: &'a Names<'a>,
}

impl Report<'_> {
    fn text(&self, printer: Printer, known_peers: usize) -> String {
        let Self { status, names, .. } = self;
        let mut rows = vec![
            ("run", format!("{} ({})", status.name, status.run.short())),
            ("this home", names.this_home()),
            ("window", self.window()),
        ];
        if status.stage != WindowStage::Over {
            rows.push(("deadline", self.deadline()));
            let contributed = status.contributed.len();
            rows.push(("contributed", format!("{contributed} of {}", count(status.members.len() as u64, "member"))));
            rows.push(("waits for", names.awaited(&status.awaited)));
        }
        rows.push(("slots", self.slots()));
        rows.extend(self.application().map(|application| ("registered", application)));
        rows.extend(status.silence.iter().map(|silence| ("signs", format!("nothing: {silence}"))));
        rows.push(("model", self.model()));
        rows.extend(self.account().map(|account| ("account", account)));
        rows.push(("peers", self.peers(known_peers)));
        rows.push(("as of", self.age()));
        let mut text = printer.facts(&rows);
        text.push_str(&self.balances());
        text
    }

    fn window(&self) -> String {
        let Self { status, .. } = self;
        if status.stage == WindowStage::Over {
            return format!("the run is over after {}", count(status.window.0, "window"));
        }
        let of = if status.windows == 0 { String::new() } else { format!(" of {}", status.windows) };
        format!("{}{of} is open: {}", status.window, status.stage.in_words())
    }

    /// How long the phase can still last. Only a running node has seen it begin.
    fn deadline(&self) -> String {
        let lasts = lasts(&self.context.genesis, self.status.stage);
        match self.status.now.node.as_ref().and_then(|node| node.left()) {
            Some(left) if left.is_zero() => "passed: validators go on without whoever is missing".to_owned(),
            Some(left) => format!("in {} at the latest", span(left)),
            None => format!("at the latest {} after the phase began; only a running node sees that", span(lasts)),
        }
    }

    fn slots(&self) -> String {
        let view = &self.status.registration;
        let work = Duration::from_secs_f64(view.hashes as f64 * seconds_per_hash());
        format!(
            "{} of {} slots taken. Joining costs about {} of CPU here, or burning {} ALPHA",
            view.members,
            view.slots,
            span(work),
            about_alpha(view.burn_micros)
        )
    }

    fn application(&self) -> Option<String> {
        let view = &self.status.registration;
        let progress = match view.progress? {
            ApplicationProgress::Accepted => "accepted",
            ApplicationProgress::Submitted => "submitted for this window",
            ApplicationProgress::ToSubmit => "waits for a node to submit it in this window",
            ApplicationProgress::Expired => "too old; `templar register` makes another",
        };
        Some(format!("for {}: {progress}", view.applicant?.short()))
    }

    fn model(&self) -> String {
        let loss = self.status.held_out_loss.map_or_else(
            || ", not trained yet".to_owned(),
            |loss| format!(", loss {loss:.4} nats a token on held-out text"),
        );
        let parameters = amount(self.context.recipe.parameter_count() as f64);
        format!("checkpoint {}, {parameters} parameters{loss}", self.status.checkpoint.short())
    }

    /// The account of this home's owner; `None` without a key.
    fn account(&self) -> Option<String> {
        let me = self.names.me?;
        let owner = self.status.registration.owner.unwrap_or(me);
        let found = self.status.balances.accounts.iter().find(|account| account.account == owner);
        let (free, vesting) = found.map_or((0, 0), |account| (account.free_micros, account.vesting_micros));
        let of = if owner == me { String::new() } else { format!(" (owner {})", owner.short()) };
        Some(format!("{} ALPHA free, {} vesting{of}", alpha(free), alpha(vesting)))
    }

    fn peers(&self, known: usize) -> String {
        match &self.status.now.node {
            Some(node) => format!("{} connected, {} known", node.peers, node.known_peers),
            None => format!("{known} known; no node runs in this home for this run"),
        }
    }

    fn age(&self) -> String {
        let ago = |age: Option<Duration>| age.map_or_else(|| "none yet".to_owned(), |age| format!("{} ago", span(age)));
        let journal = ago(self.status.now.journal_age());
        match &self.status.now.node {
            Some(node) => format!(
                "now, from the node that runs here as {}; last entry from a peer: {}, last entry of all: {journal}",
                node.role,
                ago(node.heard())
            ),
            None => format!("the last entry in this home: {journal}"),
        }
    }

    fn balances(&self) -> String {
        let balances = &self.status.balances;
        if balances.accounts.is_empty() {
            return String::new();
        }
        let mut rows = vec![["account", "who", "free", "vesting"].map(str::to_owned).to_vec()];
        for account in &balances.accounts {
            let who = self.names.roles(&account.account);
            rows.push(vec![account.account.short(), who, alpha(account.free_micros), alpha(account.vesting_micros)]);
        }
        rows.push(vec!["treasury".to_owned(), String::new(), alpha(balances.treasury_micros), String::new()]);
        let (minted, burnt) = (alpha(balances.minted_micros), alpha(balances.burnt_micros));
        format!("\n{}minted {minted} ALPHA in all, {burnt} of it burnt\n", table(&rows))
    }
}

/// The longest time that a stage lasts.
fn lasts(genesis: &Genesis, stage: WindowStage) -> Duration {
    let deadlines = &genesis.deadlines;
    Duration::from_millis(match stage {
        WindowStage::Commit => deadlines.commit_ms,
        WindowStage::Reveal => deadlines.reveal_ms,
        WindowStage::Judge | WindowStage::Over => deadlines.judge_ms,
    })
}

/// The time that this machine takes for one hash of the proof of work, on one core.
#[expect(clippy::disallowed_methods, reason = "a price in seconds, for a person; decides nothing")]
fn seconds_per_hash() -> f64 {
    let key = PublicKey::from_bytes([0; 32]);
    let hasher = WorkHasher::new(Hash::default().into(), WindowIndex(0), &Hash::default(), &key, &key);
    let start = std::time::Instant::now();
    let least = (0..MEASURED_HASHES).map(|nonce| hasher.digest(nonce)).min();
    std::hint::black_box(least);
    start.elapsed().as_secs_f64() / MEASURED_HASHES as f64
}
