//! The present moment, which no journal holds: since when the phase lasts, and when a peer was last heard. For people;
//! it decides nothing.

use std::time::Duration;

use templar_home::now::NodeNow;
use templar_manifest::WindowIndex;
use templar_protocol::Phase;
use tokio::time::Instant;

use super::Driver;
use super::config::NodeRole;

impl Driver {
    /// Notices when a phase begins.
    pub(super) fn notice_phase(&mut self) {
        let (window, phase) = self.phase();
        if self.present.phase.is_none_or(|(of, was, _)| (of, was) != (window, phase)) {
            self.present.phase = Some((window, phase, Instant::now()));
        }
    }

    /// Notices that an entry came from a peer.
    pub(super) fn notice_entry(&mut self) {
        self.present.heard = Some(Instant::now());
    }

    /// How things stand at this moment.
    pub(super) fn now(&self) -> NodeNow {
        let since = self.present.phase.map_or(Duration::ZERO, |(.., since)| since.elapsed());
        let (window, phase) = self.phase();
        let deadlines = &self.replica.context.genesis.deadlines;
        let lasts_ms = match phase {
            Phase::Commit => deadlines.commit_ms,
            Phase::Reveal => deadlines.reveal_ms,
            Phase::Judge | Phase::Vote { .. } => deadlines.judge_ms,
        };
        let role = match self.config.role {
            NodeRole::Miner => "miner",
            NodeRole::Validator => "validator",
            NodeRole::Seeder => "seeder",
            NodeRole::Sharer => "sharer",
        };
        NodeNow {
            run: self.replica.context.run,
            role: role.to_owned(),
            window,
            left_ms: (!self.replica.node().is_over()).then(|| lasts_ms.saturating_sub(millis(since))),
            heard_ms: self.present.heard.map(|heard| millis(heard.elapsed())),
            peers: self.net.neighbours().len(),
            known_peers: self.net.peers().len(),
        }
    }

    fn phase(&self) -> (WindowIndex, Phase) {
        let node = self.replica.node();
        (node.state().window(), node.phase())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
