//! A node listens before it speaks, and falls silent when it hears its own key.
//!
//! Two nodes with one key contradict each other sooner or later, and each contradiction is evidence that costs the key
//! its unvested pay. So a node that starts signs nothing before a peer has given it all entries. If one of them is its
//! own and not in its journal, the key is in use elsewhere: the node reports it and ends.

use std::time::Duration;

use templar_home::memory::Silence;

use super::Driver;
use super::config::DriverError;
use super::task::{Done, TaskId};
use crate::event::NodeEvent;

/// How long a node waits for the entries of a peer before it signs. If no peer answers, it is alone.
const PATIENCE: Duration = Duration::from_secs(5);

impl Driver {
    /// Begins to listen. A node that knows nobody has nothing to wait for.
    pub(super) fn listen(&mut self) {
        if self.net.peers().is_empty() && !self.config.networking.discovery.lan {
            self.ears.have_heard = true;
            return;
        }
        self.spawn(TaskId::Listen, |shared| async move {
            shared.gatherer.sleep(PATIENCE).await;
            Ok(Done::Listened)
        });
    }

    /// Whether this node may sign something now.
    pub(super) fn may_sign(&self) -> bool {
        self.ears.have_heard && self.replica.may_sign().is_ok()
    }

    /// A peer has given all its entries, or none has answered in time: this node may speak.
    pub(super) async fn have_listened(&mut self, to_a_peer: bool) -> Result<(), DriverError> {
        if to_a_peer {
            self.replica.caught_up()?;
        }
        self.report_silence().await?;
        if !std::mem::replace(&mut self.ears.have_heard, true) {
            let todo = self.replica.node().todo();
            self.carry_out(todo).await?;
        }
        Ok(())
    }

    /// Tells the user why this node signs nothing, once for each reason.
    ///
    /// # Errors
    /// The key is in use elsewhere, and this node would sign.
    pub(super) async fn report_silence(&mut self) -> Result<(), DriverError> {
        let Err(silence) = self.replica.may_sign() else { return Ok(()) };
        let is_news = self.ears.told.as_ref() != Some(&silence);
        if is_news {
            self.ears.told = Some(silence.clone());
        }
        match silence {
            Silence::Elsewhere(statement) => {
                if is_news {
                    let (window, kind, entry) = (statement.window.0, statement.kind.clone(), statement.entry);
                    self.emit(NodeEvent::KeyElsewhere { window, kind, entry }).await;
                }
                if self.config.role.signs() { Err(Silence::Elsewhere(statement).into()) } else { Ok(()) }
            }
            silence => {
                if is_news && self.config.role.signs() {
                    self.shared.warn(silence.to_string()).await;
                }
                Ok(())
            }
        }
    }
}
