//! Sharing blobs from a home that has no run, such as those of a dataset.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use templar_home::access::Access;
use templar_manifest::Hash;
use templar_net::{EmptyLog, Net, Reach, ServeAll, blob_ticket_text};
use templar_node::driver::Offer;
use templar_node::exchange::ExchangeError;
use templar_node::stop::stopped;

use crate::error::{Code, CommandResult};
use crate::invocation::Invocation;
use crate::network::{Listen, Stop, destination, tell_reach};
use crate::printer::is_unwritten;

/// The longest wait for a relay before the ticket is printed.
const RELAY_PATIENCE: Duration = Duration::from_secs(5);

/// Prints the ticket of `offer`, and serves blobs until this process is asked to stop. Without a run, no blob waits for
/// a cut, so all may be served.
pub(super) fn serve(
    invocation: &Invocation,
    access: &Access,
    listen: &Listen,
    offer: Offer,
    stop: Stop,
) -> CommandResult {
    let networking = listen.networking(invocation, &access.home, &[])?;
    let to = destination(access, &networking)?;
    let (runtime, log) = (access.runtime(), Arc::new(EmptyLog::new(Hash::default())));
    let binding = Net::bind(networking.config(to.secret_key), to.store.clone(), log, Arc::new(ServeAll));
    let net = runtime.block_on(binding).map_err(ExchangeError::Bind)?;
    runtime.block_on(net.relayed(RELAY_PATIENCE));
    let ticket = blob_ticket_text(&match offer {
        Offer::Blob(id) => net.blob_ticket(&id),
        Offer::Collection(id) => net.collection_ticket(&id),
    });
    let own = net.addr().addrs;
    let addresses: Vec<String> = own.iter().map(ToString::to_string).collect();
    let (key, reach) = (access.home.key()?.public(), Reach::of_all(&own));
    let printer = invocation.printer;
    let started = json!({"type": "started", "key": key, "blob_ticket": ticket, "addresses": addresses, "reach": reach});
    printer.data(&started, &ticket);
    // Nobody can use what is served without the ticket.
    if is_unwritten() {
        runtime.block_on(net.shutdown());
        return Ok(Code::Ok);
    }
    printer.talk("serving; Ctrl-C stops");
    tell_reach(&printer, &addresses, reach);
    let mut stop = stop.watch(runtime.handle());
    runtime.block_on(stopped(&mut stop));
    runtime.block_on(net.shutdown());
    Ok(Code::Ok)
}
