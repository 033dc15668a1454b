//! A miner's answer to validators that look in vain for its state.

use templar_manifest::Challenge;

use super::Driver;
use super::config::NodeRole;
use super::task::{Done, TaskId};
use crate::compute::compute;

impl Driver {
    /// Answers challenges: validators cannot find the state that a replay of this miner's contribution needs.
    /// Warns the user, and makes sure that the challenged state is among the blobs that this node serves.
    pub(super) async fn answer_challenges(&mut self) {
        if self.config.role != NodeRole::Miner {
            return;
        }
        let (node, own) = {
            let node = self.replica.node();
            let me = node.contributor();
            let is_news = |challenge: &Challenge| {
                Some(challenge.miner) == me && !self.challenged.contains(&challenge.contribution)
            };
            let challenges = node.state().challenges().into_iter();
            let own: Vec<_> = challenges.filter(|(challenge, _)| is_news(challenge)).collect();
            if own.is_empty() {
                return;
            }
            (node.clone(), own)
        };
        for (challenge, due) in own {
            self.challenged.insert(challenge.contribution);
            let Some(task) = node.state().late_task(challenge.window, &challenge.miner) else { continue };
            let message = format!(
                "validators cannot find the state that a replay of this miner's contribution to window {} needs; if it \
                 is still missing when window {due} closes, unvested pay is slashed",
                challenge.window
            );
            self.shared.warn(message).await;
            let node = node.clone();
            self.spawn(TaskId::Answer(challenge.window), |shared| async move {
                let executor = shared.executor;
                let window = challenge.window;
                match compute(move || executor.recover_challenged(&node, &task)).await {
                    Ok(replayed) => Ok(Done::Answered { window, replayed: Some(replayed) }),
                    Err(error) if error.missing().is_some() => Ok(Done::Answered { window, replayed: None }),
                    Err(error) => Err(error),
                }
            });
        }
    }
}
