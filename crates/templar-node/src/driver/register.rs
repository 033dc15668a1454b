//! What commands in this home ask of its node: shows the home's application for a slot in every window until it counts, and hands
//! in evidence.

use templar_audit::chain;
use templar_manifest::Contradiction;
use templar_protocol::{RegistrationError, Reject};
use tokio::sync::{mpsc, oneshot};

use super::{Driver, DriverError, Role};
use crate::event::Event;
use crate::registration::{Application, Progress};
use crate::replica::SubmitError;

/// What a command asks for through the socket.
pub(crate) enum Request {
    /// A slot.
    Slot(Application),
    /// That validators show this.
    Evidence(Box<Contradiction>),
}

/// A request that came through the socket, and where the answer goes: why it is not taken.
pub(crate) type Asked = (Request, oneshot::Sender<Result<(), String>>);

/// Requests that may wait for the loop.
pub(crate) const ASKED_AT_ONCE: usize = 4;

pub(super) type Asking = mpsc::Receiver<Asked>;

impl Driver {
    /// A miner without a slot follows the run until it has one, which may be never.
    pub(super) async fn warn_without_a_slot(&self) {
        let waits = self.config.role == Role::Miner
            && self.application.is_none()
            && self.replica.node().contributor().is_none();
        if waits {
            let message = "this key has no slot in the run, so it trains nothing; `templar register` asks for one";
            self.emit(Event::Warning { message: message.to_owned() }).await;
        }
    }

    /// Takes what a command in this home asks for.
    pub(super) async fn take_request(&mut self, (request, answer): Asked) -> Result<(), DriverError> {
        let taken = match request {
            Request::Slot(application) => self.take_application(application)?,
            Request::Evidence(evidence) => match self.replica.show(*evidence) {
                Ok(outputs) => {
                    self.carry_out(outputs).await?;
                    Ok(())
                }
                // It is on its way already.
                Err(SubmitError::Reject(Reject::Shown(_))) => Ok(()),
                Err(SubmitError::Reject(reject)) => Err(chain(&reject)),
                Err(error) => return Err(error.into()),
            },
        };
        // Whoever asked may have gone.
        let _ = answer.send(taken);
        Ok(())
    }

    fn take_application(&mut self, application: Application) -> Result<Result<(), String>, DriverError> {
        let taken = self.check_application(&application);
        if taken.is_ok() {
            application.keep(&self.home)?;
            self.application = Some(application);
        }
        Ok(taken)
    }

    fn check_application(&self, application: &Application) -> Result<(), String> {
        if application.run != self.replica.context.run {
            return Err("this node takes part in another run".to_owned());
        }
        if application.certificate.node != self.replica.me() {
            return Err("this node has another key than the certificate names".to_owned());
        }
        let node = self.replica.node();
        let registration = application.registration(node.state().window());
        node.state().check_registration(&registration).map_err(|error| error.to_string())
    }

    /// Asks for the slot that the home wants, where it has not got it and the open window can still give it.
    pub(super) async fn ask_for_a_slot(&mut self) -> Result<(), DriverError> {
        let Some(application) = self.application else { return Ok(()) };
        let (progress, window) = {
            let node = self.replica.node();
            (application.progress(&node), node.state().window())
        };
        let run = application.run;
        let refused = match progress {
            Progress::Wait => return Ok(()),
            Progress::Counts(member) => {
                let (owner, slot, since) = (member.owner, member.slot, member.since.0);
                self.emit(Event::Registered { owner, slot, since }).await;
                None
            }
            Progress::Stale => Some("its certificate is too old by now".to_owned()),
            Progress::Ask => match self.replica.register(&application) {
                Ok(outputs) => return self.carry_out(outputs).await,
                // The window is cut, or has another registration of this owner: the next one may take this.
                Err(SubmitError::Reject(Reject::Registration(
                    RegistrationError::AfterCut(_) | RegistrationError::Second(_),
                ))) => return Ok(()),
                Err(SubmitError::Reject(reject)) => Some(reject.to_string()),
                Err(error) => return Err(error.into()),
            },
        };
        if let Some(reason) = refused {
            let message = format!("the registration for {} ends in window {window}: {reason}", application.owner());
            self.emit(Event::Warning { message }).await;
        }
        self.application = None;
        Ok(Application::forget(&self.home, &run)?)
    }
}
