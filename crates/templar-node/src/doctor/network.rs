//! Checks of the network: addresses, relays, peers, and the clocks of peers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use templar_home::Home;
use templar_home::memory::Statement;
use templar_manifest::{Hash, PublicKey, RunId};
use templar_net::{Addr, PeerAddr, PeerId, Prober, Reach, Relays, Skew};
use templar_protocol::{Entry, Verified};
use tokio::task::JoinSet;

use super::finding::{DoctorFinding, error_chain};
use super::home::{ELSEWHERE, names, own_entries};
use crate::clock::{ClockAgreement, TOLERANCE, agreement};
use crate::peers;
use crate::settings::Networking;

/// The greatest number of peers that are asked.
const MAX_PEERS: usize = 64;

/// The greatest number of entries that are read of each peer: those of the open window, and a little more.
const MAX_ENTRIES: usize = 4096;

/// The round trip above which each step of a run becomes noticeably slower.
const SLOW: Duration = Duration::from_secs(1);

/// The peers and relays to ask, and how to reach them.
pub(super) struct Asked<'a> {
    pub(super) networking: &'a Networking,
    pub(super) run: Option<RunId>,
    /// The milestones that the home's journal has reached, newest first; `None` if it has none that can be folded.
    pub(super) reached: Option<Vec<Hash>>,
    pub(super) more: &'a [PeerAddr],
    pub(super) patience: Duration,
    pub(super) key: [u8; 32],
}

pub(super) fn look_at(home: &Home, asked: &Asked<'_>, say: &mut impl FnMut(DoctorFinding)) {
    let known = match peers::load(home) {
        Ok(known) => known,
        Err(error) => {
            say(DoctorFinding::fail("peer", error_chain(&error), "remove peers.json; a ticket brings its peers back"));
            Vec::new()
        }
    };
    let mut all: BTreeMap<PeerId, PeerAddr> = known.into_iter().map(|peer| (peer.id, peer)).collect();
    all.extend(asked.more.iter().map(|peer| (peer.id, peer.clone())));
    let key = home.key().ok().map(|key| key.public());
    if let Some(key) = &key {
        all.remove(key.as_bytes());
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            return say(DoctorFinding::fail(
                "peer",
                format!("the system gives no threads: {error}"),
                "free some memory",
            ));
        }
    };
    let heard = runtime.block_on(look_around(asked, all.into_values().take(MAX_PEERS).collect(), say));
    if let (Some(key), Some(run)) = (key, asked.run) {
        look_at_key(home, &run, &key, &heard, say);
    }
}

/// Looks for statements with the home's key that peers have and its journal does not. The journal is read after the
/// peers were asked, so what a node of this home has signed meanwhile is in it.
fn look_at_key(
    home: &Home,
    run: &RunId,
    key: &PublicKey,
    heard: &BTreeMap<PeerId, Vec<Bytes>>,
    say: &mut impl FnMut(DoctorFinding),
) {
    if heard.is_empty() {
        return;
    }
    let Some(own) = own_entries(home, run, key) else { return };
    for (peer, entries) in heard {
        let entries = entries.iter().filter_map(|bytes| Entry::decode(bytes).ok()).filter(|entry| names(entry, key));
        // Only the key can have made the signature, so it does not matter which peer has sent it.
        let signed = entries.filter(|entry| !own.contains(&entry.id())).filter_map(|entry| Verified::open(entry).ok());
        let mut statements = signed.filter(|entry| entry.run() == *run).filter_map(|entry| Statement::of(&entry, key));
        if let Some(statement) = statements.next() {
            let peer = PublicKey::from_bytes(*peer).short();
            let text = format!("{peer} has {statement} with this home's key, and it was not signed here");
            return say(DoctorFinding::fail("key", text, ELSEWHERE));
        }
    }
    let text = match heard.len() {
        1 => "1 peer was asked, and does not know it from elsewhere".to_owned(),
        peers => format!("{peers} peers were asked, and none knows it from elsewhere"),
    };
    say(DoctorFinding::ok("key", text));
}

/// Asks all peers. Gives the entries that each of them has after the last record of this home.
async fn look_around(
    asked: &Asked<'_>,
    peers: Vec<PeerAddr>,
    say: &mut impl FnMut(DoctorFinding),
) -> BTreeMap<PeerId, Vec<Bytes>> {
    let networking = asked.networking.aside();
    let run = asked.run.map(|run| run.hash()).unwrap_or_default();
    let prober = match Prober::bind(networking.config(asked.key), run).await {
        Ok(prober) => prober,
        Err(error) => {
            say(DoctorFinding::fail("port", error_chain(&error), "choose another address with --bind"));
            return BTreeMap::new();
        }
    };
    look_at_relay(asked, &prober, say).await;
    look_at_interfaces(asked, &prober, say);
    if peers.is_empty() {
        say(DoctorFinding::warn(
            "peer",
            "this home knows no peers",
            "`templar run join TICKET`, --peer or --lan bring some",
        ));
    }
    let prober = std::sync::Arc::new(prober);
    let mut asking = JoinSet::new();
    for peer in peers {
        let (prober, reached) = (prober.clone(), asked.reached.clone());
        asking.spawn(async move {
            let answer = prober.ask(&peer).await;
            let entries = match reached.filter(|_| answer.is_ok()) {
                // A peer that does not give its log is no fault of this home.
                Some(reached) => prober.entries(&peer, reached, MAX_ENTRIES).await.ok(),
                None => None,
            };
            (peer, answer, entries)
        });
    }
    let (mut skews, mut answers) = (BTreeMap::<PeerId, Skew>::new(), Vec::new());
    let mut heard = BTreeMap::new();
    while let Some(Ok((peer, answer, entries))) = asking.join_next().await {
        heard.extend(entries.map(|entries| (peer.id, entries)));
        answers.push((peer, answer));
    }
    answers.sort_by_key(|(peer, _)| peer.id);
    let reached = answers.iter().filter(|(_, answer)| answer.is_ok()).count();
    for (peer, answer) in answers {
        let name = PublicKey::from_bytes(peer.id).short();
        let places: Vec<String> = peer.addrs.iter().map(ToString::to_string).collect();
        match answer {
            Ok(probe) => {
                skews.extend(probe.skew.map(|skew| (peer.id, skew)));
                let text = format!("{name} answers in {:.1} ms", probe.took.as_secs_f64() * 1e3);
                say(match probe.took > SLOW {
                    true => DoctorFinding::warn("peer", text, "the way to it is slow; nearer peers are asked first"),
                    false => DoctorFinding::ok("peer", text),
                });
            }
            // One of many peers may be away without harm.
            Err(error) => {
                let text = format!("{name} at {}: {error}", places.join(", "));
                let hint = "is it running, and does a firewall let UDP through? a newer ticket has newer addresses";
                say(if reached > 0 {
                    DoctorFinding::warn("peer", text, hint)
                } else {
                    DoctorFinding::fail("peer", text, hint)
                });
            }
        }
    }
    look_at_clock(&skews, say);
    if let Ok(prober) = std::sync::Arc::try_unwrap(prober) {
        prober.close().await;
    }
    heard
}

async fn look_at_relay(asked: &Asked<'_>, prober: &Prober, say: &mut impl FnMut(DoctorFinding)) {
    let relays = &asked.networking.discovery.relays;
    match prober.relayed(asked.patience).await {
        None => say(DoctorFinding::ok("relay", "none is configured, and none is asked")),
        Some(true) => say(DoctorFinding::ok("relay", format!("{relays}: connected"))),
        Some(false) => {
            let hint = match relays {
                Relays::Own(_) => "is the relay running, and is its URL right? its port is TCP",
                _ => "does a firewall let HTTPS out? without a relay only peers with open ports are reached",
            };
            let seconds = asked.patience.as_secs();
            say(DoctorFinding::fail("relay", format!("{relays}: no connection within {seconds} s"), hint));
        }
    }
}

fn look_at_interfaces(asked: &Asked<'_>, prober: &Prober, say: &mut impl FnMut(DoctorFinding)) {
    let addrs = prober.addr().addrs;
    let ips: Vec<String> = addrs.iter().filter_map(Addr::ip).map(|addr| addr.ip().to_string()).collect();
    let relayed = asked.networking.discovery.relays != Relays::None;
    say(interfaces(
        &ips,
        Reach::of_all(addrs.iter().filter(|addr| addr.ip().is_some())),
        asked.networking.bind,
        relayed,
    ));
}

/// The finding about the addresses that this node tells peers.
fn interfaces(ips: &[String], reach: Option<Reach>, bind: SocketAddr, relayed: bool) -> DoctorFinding {
    let text =
        format!("this node tells peers {}", if ips.is_empty() { "no address".to_owned() } else { ips.join(", ") });
    let hint =
        "from outside only a relay (--relay), or a UDP port forwarded to this machine and --advertise, lead here";
    match reach {
        None => {
            let text = format!("{text}: it listens at {bind}, and no interface that is up has an address for that");
            let hint = "bring a network interface up, or listen at all addresses: --bind '[::]:4433'";
            DoctorFinding::fail("interfaces", text, hint)
        }
        Some(Reach::Machine) => DoctorFinding::ok("interfaces", format!("{text}: only this machine can use them")),
        Some(Reach::Global) => DoctorFinding::ok("interfaces", text),
        Some(Reach::Local) if relayed => DoctorFinding::ok("interfaces", format!("{text}, and a relay")),
        Some(Reach::Local) => {
            DoctorFinding::warn("interfaces", format!("{text}: only the local network can use them"), hint)
        }
    }
}

fn look_at_clock(skews: &BTreeMap<PeerId, Skew>, say: &mut impl FnMut(DoctorFinding)) {
    let found = agreement(skews);
    if let Some(problem) = found.problem() {
        return say(DoctorFinding::warn("clock", problem, "set it by a time service: `timedatectl set-ntp true`"));
    }
    say(match found {
        ClockAgreement::Unknown => {
            DoctorFinding::warn("clock", "no peer could be asked for the time", "look again when one is there")
        }
        _ => {
            let bound = skews.values().map(|skew| skew.error_ms).max().unwrap_or(0);
            let tolerance = TOLERANCE.as_secs();
            let text = match skews.len() {
                1 => format!("within {tolerance} s of one peer, known to {bound} ms or better"),
                peers => format!(
                    "within {tolerance} s of more than half of {peers} peers, each known to {bound} ms or better"
                ),
            };
            DoctorFinding::ok("clock", text)
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn a_node_without_an_address_is_told_what_to_do() {
        let finding = |ips: &[&str], reach, relayed| {
            let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
            interfaces(&ips, reach, SocketAddr::from(([0, 0, 0, 0], 4433)), relayed)
        };
        let none = finding(&[], None, false);
        assert_eq!(none.level, Level::Fail);
        assert!(none.text.contains("no address") && none.hint.is_some_and(|hint| hint.contains("[::]:4433")));
        let local = finding(&["10.77.0.1", "fd77::1"], Some(Reach::Local), false);
        assert_eq!((local.level, local.hint.is_some()), (Level::Warn, true));
        assert!(local.text.contains("10.77.0.1, fd77::1"));
        assert_eq!(finding(&["10.77.0.1"], Some(Reach::Local), true).level, Level::Ok);
        assert_eq!(finding(&["127.0.0.1"], Some(Reach::Machine), false).level, Level::Ok);
        assert_eq!(finding(&["203.0.113.7"], Some(Reach::Global), false).level, Level::Ok);
    }
}
