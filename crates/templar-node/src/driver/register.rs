//! Requests of commands in this home. The node submits the home's application for a slot in every window until
//! it counts, hands in evidence, and says how things stand.

use templar_audit::chain;
use templar_home::registration::{Application, ApplicationStatus};
use templar_home::replica::SubmitError;
use templar_home::socket::LocalRequest;
use templar_protocol::{RegistrationError, Reject};

use super::Driver;
use super::config::{DriverError, NodeRole};
use crate::event::NodeEvent;
use crate::local_socket::LocalAsk;

impl Driver {
    /// Warns a miner that has no slot and asks for none: it would follow the run and never train.
    pub(super) async fn warn_without_a_slot(&self) {
        let waits = self.config.role == NodeRole::Miner
            && self.application.is_none()
            && self.replica.node().contributor().is_none();
        if waits {
            let message = "this key has no slot in the run, so it trains nothing; `templar register` asks for one";
            self.shared.warn(message).await;
        }
    }

    /// Takes a request of a command in this home and answers it.
    pub(super) async fn take_request(&mut self, (request, answer): LocalAsk) -> Result<(), DriverError> {
        let taken = match request {
            LocalRequest::Slot(application) => self.take_application(application)?.map(|()| Vec::new()),
            LocalRequest::Evidence(evidence) => match self.replica.show(*evidence) {
                Ok(outputs) => {
                    self.carry_out(outputs).await?;
                    Ok(Vec::new())
                }
                // The evidence is on its way already.
                Err(SubmitError::Reject(Reject::Shown(_))) => Ok(Vec::new()),
                Err(SubmitError::Reject(reject)) => Err(chain(&reject)),
                Err(error) => return Err(error.into()),
            },
            LocalRequest::Now => serde_json::to_vec(&self.now()).map_err(|error| error.to_string()),
        };
        // The command may have ended meanwhile.
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

    /// Submits the home's application for a slot, if it has no slot yet and the open window can still give one.
    pub(super) async fn ask_for_a_slot(&mut self) -> Result<(), DriverError> {
        let Some(application) = self.application.filter(|_| self.may_sign()) else { return Ok(()) };
        let (progress, window) = {
            let node = self.replica.node();
            (application.progress(node), node.state().window())
        };
        let run = application.run;
        let refused = match progress {
            ApplicationStatus::Wait => return Ok(()),
            ApplicationStatus::Counts(member) => {
                let (owner, slot, since) = (member.owner, member.slot, member.since.0);
                self.emit(NodeEvent::Registered { owner, slot, since }).await;
                None
            }
            ApplicationStatus::Stale => Some("its certificate is too old by now".to_owned()),
            ApplicationStatus::Ask => match self.replica.register(&application) {
                Ok(outputs) => return self.carry_out(outputs).await,
                // The window is cut, has another registration of this owner, or asks for more work. The next window may
                // take this one.
                Err(SubmitError::Reject(Reject::Registration(
                    RegistrationError::AfterCut(_)
                    | RegistrationError::Second(_)
                    | RegistrationError::StalePrice { .. },
                ))) => return Ok(()),
                Err(SubmitError::Reject(reject)) => Some(reject.to_string()),
                Err(error) => return Err(error.into()),
            },
        };
        if let Some(reason) = refused {
            let message = format!("the registration for {} ends in window {window}: {reason}", application.owner());
            self.shared.warn(message).await;
        }
        self.application = None;
        Ok(Application::forget(&self.home, &run)?)
    }
}
