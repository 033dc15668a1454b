//! Nodes of the same run find each other in a local network by multicast (mDNS), with the feature `lan`.
//!
//! Invariant: what is heard is an address of somebody who may be anybody; a connection proves the key or fails.

use std::sync::Arc;

use iroh::Endpoint;
use iroh_mdns_address_lookup::{DiscoveryEvent, MdnsAddressLookup};
use n0_future::StreamExt;
use templar_manifest::Hash;

use crate::BindError;
use crate::book::{Book, Source};
use crate::peer::PeerAddr;

/// The name under which nodes announce themselves.
const SERVICE: &str = "templar";

/// Announces the node on the local network.
pub(crate) fn announce(endpoint: &Endpoint) -> Result<MdnsAddressLookup, BindError> {
    let failed = |error: &dyn std::fmt::Display| BindError::Multicast { reason: format!("{error:#}") };
    let mdns =
        MdnsAddressLookup::builder().service_name(SERVICE).build(endpoint.id()).map_err(|error| failed(&error))?;
    endpoint.address_lookup().map_err(|error| failed(&error))?.add(mdns.clone());
    Ok(mdns)
}

/// Puts nodes of the same run that announce themselves on the local network into the book, for ever.
pub(crate) async fn watch(mdns: MdnsAddressLookup, book: Arc<Book>, run: Hash) {
    let run = run.to_string();
    let mut heard = mdns.subscribe().await;
    while let Some(event) = heard.next().await {
        let DiscoveryEvent::Discovered { endpoint_info, .. } = event else { continue };
        if endpoint_info.user_data().is_none_or(|of| of.as_ref() != run) {
            continue;
        }
        if let Some(peer) = PeerAddr::from_endpoint_addr(&endpoint_info.into_endpoint_addr()).usable() {
            // Multicast proves nothing, so it counts as little as what other peers say.
            book.learn(peer, Source::Heard);
        }
    }
}
