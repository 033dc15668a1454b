//! The network: links over which nodes pull each other's logs, as real nodes do.
//!
//! A link is a reliable stream in one direction. The entries of a log arrive in order, and one batch at a time
//! is on its way. A lost batch is sent again after a pause. After a partition or a crash the receiver continues
//! where it stopped.

use crate::config::Faults;
use crate::rng::SimRng;

/// The number of peers that each node picks in a network too large for a full mesh.
const PICKED: usize = 5;
/// The largest number of nodes that form a full mesh.
const FULL_MESH: usize = 12;
/// The pause before a lost batch is sent again, in milliseconds.
const RESEND_MS: u64 = 250;

/// One direction between two nodes: `to` pulls the log of `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SimLink {
    pub(crate) from: usize,
    pub(crate) to: usize,
    latency_ms: u64,
    /// The position in the log up to which `to` has read.
    pub(crate) cursor: u64,
    /// Whether a batch is on its way.
    pub(crate) is_busy: bool,
    /// Whether it is scheduled that the log is read again from its beginning.
    pub(crate) reads_again: bool,
    /// The pause before the log was last read again, in milliseconds.
    pub(crate) read_again_ms: u64,
}

/// All links, and the partition if there is one.
#[derive(Debug, Default)]
pub(crate) struct SimNetwork {
    pub(crate) links: Vec<SimLink>,
    /// By node: the indices of the links over which others pull its log.
    pub(crate) out: Vec<Vec<usize>>,
    /// By node: the indices of the links over which it pulls.
    pub(crate) into: Vec<Vec<usize>>,
    /// By node: its side of the partition. Without a partition all nodes are on the same side.
    pub(crate) side: Vec<bool>,
    loss_ppm: u64,
    jitter_ms: u64,
}

impl SimNetwork {
    pub(crate) fn new(nodes: usize, faults: Faults, rng: &mut SimRng) -> Self {
        let (loss_ppm, jitter_ms) = match faults {
            Faults::None => (0, 5),
            Faults::Light => (5_000, 30),
            Faults::Heavy => (100_000, 400),
        };
        let mut network = Self {
            links: Vec::new(),
            out: vec![Vec::new(); nodes],
            into: vec![Vec::new(); nodes],
            side: vec![false; nodes],
            loss_ppm,
            jitter_ms,
        };
        // A ring first, so that the network is connected.
        let mut ring: Vec<usize> = (0..nodes).collect();
        rng.shuffle(&mut ring);
        for (place, &node) in ring.iter().enumerate() {
            network.connect(node, ring[(place + 1) % nodes], rng);
        }
        for node in 0..nodes {
            if nodes <= FULL_MESH {
                (0..nodes).for_each(|other| network.connect(node, other, rng));
            } else {
                (0..PICKED).for_each(|_| network.connect(node, rng.below(nodes as u64) as usize, rng));
            }
        }
        network
    }

    /// Links two nodes in both directions, unless they are linked already.
    fn connect(&mut self, a: usize, b: usize, rng: &mut SimRng) {
        if a == b || self.out[a].iter().any(|&link| self.links[link].to == b) {
            return;
        }
        let latency_ms = rng.between(5, 150);
        for (from, to) in [(a, b), (b, a)] {
            self.out[from].push(self.links.len());
            self.into[to].push(self.links.len());
            self.links.push(SimLink {
                from,
                to,
                latency_ms,
                cursor: 0,
                is_busy: false,
                reads_again: false,
                read_again_ms: 0,
            });
        }
    }

    /// Whether a partition separates two nodes.
    pub(crate) fn cut_off(&self, a: usize, b: usize) -> bool {
        self.side[a] != self.side[b]
    }

    /// Begins a partition: each node goes to a side at random.
    pub(crate) fn split(&mut self, rng: &mut SimRng) {
        self.side.iter_mut().for_each(|side| *side = rng.chance(500_000));
    }

    /// Ends the partition, if there is one.
    pub(crate) fn heal(&mut self) {
        self.side.fill(false);
    }

    /// Draws how long a batch takes over a link, in milliseconds, with the pauses for what is lost.
    pub(crate) fn delay_ms(&self, link: usize, rng: &mut SimRng) -> u64 {
        let mut delay = self.links[link].latency_ms + rng.below(self.jitter_ms + 1);
        while rng.chance(self.loss_ppm) {
            delay += RESEND_MS;
        }
        delay
    }

    /// Draws how long a message takes to a node that is not linked, in milliseconds.
    pub(crate) fn detour_ms(&self, rng: &mut SimRng) -> u64 {
        rng.between(5, 150) + rng.below(self.jitter_ms + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_is_reached_and_none_is_linked_twice() {
        for nodes in [1, 2, 12, 13, 270] {
            let network = SimNetwork::new(nodes, Faults::Light, &mut SimRng::new(nodes as u64));
            let (mut reached, mut next) = (vec![false; nodes], vec![0]);
            while let Some(node) = next.pop() {
                if !std::mem::replace(&mut reached[node], true) {
                    next.extend(network.out[node].iter().map(|&link| network.links[link].to));
                }
            }
            assert!(reached.iter().all(|reached| *reached), "{nodes}");
            for node in 0..nodes {
                let mut peers: Vec<usize> = network.out[node].iter().map(|&link| network.links[link].to).collect();
                peers.sort_unstable();
                assert!(peers.windows(2).all(|pair| pair[0] < pair[1]) && !peers.contains(&node));
                assert_eq!(network.out[node].len(), network.into[node].len());
            }
        }
    }
}
