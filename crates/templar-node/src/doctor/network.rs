//! What the network gives: addresses, relays, peers, and what the clocks of peers say.

use std::collections::BTreeMap;
use std::time::Duration;

use templar_manifest::{PublicKey, RunId};
use templar_net::{Discovery, PeerAddr, PeerId, Prober, Relays, Skew};
use tokio::task::JoinSet;

use super::machine::{Scope, scope};
use super::{Finding, error_chain};
use crate::clock::{Agreement, TOLERANCE, agreement};
use crate::home::Home;
use crate::peers;
use crate::settings::Networking;

/// Peers that are asked at most.
const MAX_PEERS: usize = 64;

/// Longer than this, and every step of a run is felt.
const SLOW: Duration = Duration::from_secs(1);

/// What is asked, and how.
pub(super) struct Asked<'a> {
    pub(super) networking: &'a Networking,
    pub(super) run: Option<RunId>,
    pub(super) more: &'a [PeerAddr],
    pub(super) patience: Duration,
    pub(super) key: [u8; 32],
}

pub(super) fn look_at(home: &Home, asked: &Asked<'_>, say: &mut impl FnMut(Finding)) {
    let known = match peers::load(home) {
        Ok(known) => known,
        Err(error) => {
            say(Finding::fail("peer", error_chain(&error), "remove peers.json; a ticket brings its peers back"));
            Vec::new()
        }
    };
    let mut all: BTreeMap<PeerId, PeerAddr> = known.into_iter().map(|peer| (peer.id, peer)).collect();
    all.extend(asked.more.iter().map(|peer| (peer.id, peer.clone())));
    if let Ok(key) = home.key() {
        all.remove(key.public().as_bytes());
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return say(Finding::fail("peer", format!("no threads to be had: {error}"), "free some memory")),
    };
    runtime.block_on(look_around(asked, all.into_values().take(MAX_PEERS).collect(), say));
}

async fn look_around(asked: &Asked<'_>, peers: Vec<PeerAddr>, say: &mut impl FnMut(Finding)) {
    let mut networking = asked.networking.clone();
    // The node's own port may be in use, and this one is to be found by nobody.
    networking.bind.set_port(0);
    networking.discovery = Discovery { lan: false, ..networking.discovery };
    let run = asked.run.map(|run| run.hash()).unwrap_or_default();
    let prober = match Prober::bind(networking.config(asked.key), run).await {
        Ok(prober) => prober,
        Err(error) => {
            return say(Finding::fail("port", error_chain(&error), "choose another address with --bind"));
        }
    };
    look_at_relay(asked, &prober, say).await;
    look_at_interfaces(asked, &prober, say);
    if peers.is_empty() {
        say(Finding::warn("peer", "this home knows no peers", "`templar run join TICKET`, --peer or --lan bring some"));
    }
    let prober = std::sync::Arc::new(prober);
    let mut asking = JoinSet::new();
    for peer in peers {
        let prober = prober.clone();
        asking.spawn(async move {
            let answer = prober.ask(&peer).await;
            (peer, answer)
        });
    }
    let (mut skews, mut answers) = (BTreeMap::<PeerId, Skew>::new(), Vec::new());
    while let Some(Ok(answer)) = asking.join_next().await {
        answers.push(answer);
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
                    true => Finding::warn("peer", text, "the way to it is slow; nearer peers are asked first"),
                    false => Finding::ok("peer", text),
                });
            }
            // One of many may be away.
            Err(error) => {
                let text = format!("{name} at {}: {error}", places.join(", "));
                let hint = "is it running, and does a firewall let UDP through? a newer ticket has newer addresses";
                say(if reached > 0 { Finding::warn("peer", text, hint) } else { Finding::fail("peer", text, hint) });
            }
        }
    }
    look_at_clock(&skews, say);
    if let Ok(prober) = std::sync::Arc::try_unwrap(prober) {
        prober.close().await;
    }
}

async fn look_at_relay(asked: &Asked<'_>, prober: &Prober, say: &mut impl FnMut(Finding)) {
    let relays = &asked.networking.discovery.relays;
    match prober.relayed(asked.patience).await {
        None => say(Finding::ok("relay", "none is configured, and none is asked")),
        Some(true) => say(Finding::ok("relay", format!("{relays}: connected"))),
        Some(false) => {
            let hint = match relays {
                Relays::Own(_) => "is the relay running, and is its URL right? its port is TCP",
                _ => "does a firewall let HTTPS out? without a relay only peers with open ports are reached",
            };
            let seconds = asked.patience.as_secs();
            say(Finding::fail("relay", format!("{relays}: no connection within {seconds} s"), hint));
        }
    }
}

fn look_at_interfaces(asked: &Asked<'_>, prober: &Prober, say: &mut impl FnMut(Finding)) {
    let discovery = &asked.networking.discovery;
    let ips: Vec<_> = prober.addr().addrs.iter().filter_map(|addr| addr.ip()).map(|addr| addr.ip()).collect();
    let shown: Vec<String> = ips.iter().map(ToString::to_string).collect();
    let text =
        format!("this node tells peers {}", if shown.is_empty() { "no address".to_owned() } else { shown.join(", ") });
    let hint =
        "from outside only a relay (--relay), or a UDP port forwarded to this machine and --advertise, lead here";
    say(match ips.iter().copied().map(scope).max() {
        None => Finding::fail("interfaces", text, "bring a network interface up"),
        Some(Scope::Machine) => Finding::ok("interfaces", format!("{text}: this machine alone")),
        Some(Scope::Global) => Finding::ok("interfaces", text),
        Some(Scope::Local) if discovery.relays != Relays::None => {
            Finding::ok("interfaces", format!("{text}, and a relay"))
        }
        Some(Scope::Local) => Finding::warn("interfaces", format!("{text}: the local network alone"), hint),
    });
}

fn look_at_clock(skews: &BTreeMap<PeerId, Skew>, say: &mut impl FnMut(Finding)) {
    let found = agreement(skews);
    if let Some(problem) = found.problem() {
        return say(Finding::warn("clock", problem, "set it by a time service: `timedatectl set-ntp true`"));
    }
    say(match found {
        Agreement::Unknown => {
            Finding::warn("clock", "no peer could be asked for the time", "look again when one is there")
        }
        _ => {
            let bound = skews.values().map(|skew| skew.error_ms).max().unwrap_or(0);
            let text = format!(
                "within {} s of more than half of {} peers, each known to {bound} ms or better",
                TOLERANCE.as_secs(),
                skews.len()
            );
            Finding::ok("clock", text)
        }
    });
}
