//! Discovery in the local network: nodes of the same run find each other by multicast (mDNS), with the feature
//! `lan`.
//!
//! Invariant: an address from the local network is hearsay, because anybody may send it. A connection proves
//! the key or fails.

use std::sync::Arc;

use iroh::Endpoint;
use iroh_mdns_address_lookup::{DiscoveryEvent, MdnsAddressLookup};
use n0_future::StreamExt;
use templar_manifest::Hash;

use crate::error::BindError;
use crate::peers::book::{AddrSource, Book};
use crate::peers::peer::PeerAddr;

/// The mDNS service name under which nodes announce themselves.
const SERVICE: &str = "templar";

/// Announces the node on the local network.
///
/// # Errors
/// [`BindError::Multicast`] if the system does not allow it.
pub(crate) fn announce(endpoint: &Endpoint) -> Result<MdnsAddressLookup, BindError> {
    let failed = |error: &dyn std::fmt::Display| BindError::Multicast { reason: format!("{error:#}") };
    let mdns =
        MdnsAddressLookup::builder().service_name(SERVICE).build(endpoint.id()).map_err(|error| failed(&error))?;
    endpoint.address_lookup().map_err(|error| failed(&error))?.add(mdns.clone());
    Ok(mdns)
}

/// Puts the nodes of the same run that announce themselves into the book. It never returns while mDNS works.
pub(crate) async fn watch(mdns: MdnsAddressLookup, book: Arc<Book>, run: Hash) {
    let run = run.to_string();
    let mut heard = mdns.subscribe().await;
    while let Some(event) = heard.next().await {
        let DiscoveryEvent::Discovered { endpoint_info, .. } = event else { continue };
        if endpoint_info.user_data().is_none_or(|of| of.as_ref() != run) {
            continue;
        }
        if let Some(peer) = PeerAddr::from_endpoint_addr(&endpoint_info.into_endpoint_addr()).usable() {
            // A multicast message proves nothing, so it counts as hearsay.
            book.learn(peer, AddrSource::Heard);
        }
    }
}
