//! The network: links over which nodes pull each other's logs, as the real ones do.
//!
//! A link is a reliable stream in one direction: entries of a log come in its order, one batch on its way at a time. What
//! is lost is sent again after a pause; what a partition or a crash cuts off is sent again from where the receiver stopped.

use crate::config::Faults;
use crate::dice::Dice;

/// Links that each node picks in a network that is too large for everybody to know everybody.
const PICKED: usize = 5;
/// Up to as many nodes all know each other.
const FULL_MESH: usize = 12;
/// The pause before something lost is sent again, in milliseconds.
const RESEND_MS: u64 = 250;

/// One direction between two nodes: `to` pulls the log of `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) from: usize,
    pub(crate) to: usize,
    latency_ms: u64,
    /// How far `to` has read.
    pub(crate) cursor: u64,
    /// Whether a batch is on its way.
    pub(crate) is_busy: bool,
    /// Whether it will be read from the beginning again, and after which pause it was the last time.
    pub(crate) reads_again: bool,
    pub(crate) read_again_ms: u64,
}

/// All links, and what is broken.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) links: Vec<Link>,
    /// The links by which others pull a node's log.
    pub(crate) out: Vec<Vec<usize>>,
    /// The links by which a node pulls.
    pub(crate) into: Vec<Vec<usize>>,
    /// On which side of a partition each node is; all on one where there is none.
    pub(crate) side: Vec<bool>,
    loss_ppm: u64,
    jitter_ms: u64,
}

impl Network {
    pub(crate) fn new(nodes: usize, faults: Faults, dice: &mut Dice) -> Self {
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
        // A ring first, so that nobody is alone.
        let mut ring: Vec<usize> = (0..nodes).collect();
        dice.shuffle(&mut ring);
        for (place, &node) in ring.iter().enumerate() {
            network.connect(node, ring[(place + 1) % nodes], dice);
        }
        for node in 0..nodes {
            if nodes <= FULL_MESH {
                (0..nodes).for_each(|other| network.connect(node, other, dice));
            } else {
                (0..PICKED).for_each(|_| network.connect(node, dice.below(nodes as u64) as usize, dice));
            }
        }
        network
    }

    fn connect(&mut self, a: usize, b: usize, dice: &mut Dice) {
        if a == b || self.out[a].iter().any(|&link| self.links[link].to == b) {
            return;
        }
        let latency_ms = dice.between(5, 150);
        for (from, to) in [(a, b), (b, a)] {
            self.out[from].push(self.links.len());
            self.into[to].push(self.links.len());
            self.links.push(Link {
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

    /// Whether two nodes cannot reach each other now.
    pub(crate) fn cut_off(&self, a: usize, b: usize) -> bool {
        self.side[a] != self.side[b]
    }

    /// Splits the nodes at random.
    pub(crate) fn split(&mut self, dice: &mut Dice) {
        self.side.iter_mut().for_each(|side| *side = dice.chance(500_000));
    }

    pub(crate) fn heal(&mut self) {
        self.side.fill(false);
    }

    /// How long a message takes now, with what it loses on the way.
    pub(crate) fn delay_ms(&self, link: usize, dice: &mut Dice) -> u64 {
        let mut delay = self.links[link].latency_ms + dice.below(self.jitter_ms + 1);
        while dice.chance(self.loss_ppm) {
            delay += RESEND_MS;
        }
        delay
    }

    /// How long a message takes to somebody who is no neighbour.
    pub(crate) fn detour_ms(&self, dice: &mut Dice) -> u64 {
        dice.between(5, 150) + dice.below(self.jitter_ms + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_reached_and_nobody_twice() {
        for nodes in [1, 2, 12, 13, 270] {
            let network = Network::new(nodes, Faults::Light, &mut Dice::new(nodes as u64));
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
