//! Congestion control: BBR with a slightly raised pacing rate, and CUBIC on paths with a very short round trip.
//!
//! **Why the rate is raised.** BBR paces at 99 % of the highest delivery rate that it remembers. While the
//! acknowledgements of a probe are outstanding, which is the whole cruise phase of about sixty round trips,
//! noq's BBR remembers two round trips only, as the draft says (`BBRAdaptLongTermModel` and
//! `BBRAdvanceMaxBwFilter` in draft-ietf-ccwg-bbr). So it delivers one percent less, takes this for the new
//! maximum, and sinks by a quarter until the next probe, on an empty link too. When it is asked for a little
//! more than the maximum, the link itself limits the rate. The surplus waits in the link's queue, and BBR's
//! congestion window still bounds it.
//!
//! **Why short paths get CUBIC.** On loopback and between neighbouring machines a round trip is shorter than
//! the resolution of timers. Pacing then sends bursts, each delayed by a timer; the bursts overflow the
//! receiver's buffer, and BBR takes the losses for the limit of the path. A congestion window with fast
//! retransmission is enough there. `BENCH.md` has measurements of both.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use noq_proto::RttEstimator;
use noq_proto::congestion::{Bbr3Config, Controller, ControllerFactory, ControllerMetrics, CubicConfig};

/// The pacing rate in percent of BBR's. It makes up for BBR's margin of one percent and for a pacer that is
/// woken late.
const PERCENT: u64 = 110;

/// The bytes that are sent before any is acknowledged: 32 packets, as in Chromium's QUIC. RFC 9002 has ten. On
/// a path with a long round trip this saves nearly two of them.
const INITIAL_WINDOW: u64 = 32 * 1200;

/// A round trip below this bound is as short as a timer's tick.
const SHORT: Duration = Duration::from_millis(1);

/// Makes a congestion controller for each path.
#[derive(Debug)]
pub(crate) struct Paced {
    long: Arc<Bbr3Config>,
    short: Arc<CubicConfig>,
}

impl Default for Paced {
    fn default() -> Self {
        let (mut long, mut short) = (Bbr3Config::default(), CubicConfig::default());
        long.initial_window(INITIAL_WINDOW);
        short.initial_window(INITIAL_WINDOW);
        Self { long: Arc::new(long), short: Arc::new(short) }
    }
}

impl ControllerFactory for Paced {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Pace { inner: self.long.clone().build(now, mtu), mtu, short: Some(self.short.clone()) })
    }
}

/// A congestion controller that raises the pacing rate of the one inside it, and switches to CUBIC on a short
/// path.
#[derive(Debug)]
struct Pace {
    inner: Box<dyn Controller>,
    /// The bytes of the largest datagram on this path.
    mtu: u16,
    /// The configuration for a short path. `None` once CUBIC is in use.
    short: Option<Arc<CubicConfig>>,
}

/// The pacing rate that is asked for, from BBR's rate in bytes per second.
fn raised(rate: u64) -> u64 {
    u64::try_from(u128::from(rate) * u128::from(PERCENT) / 100).unwrap_or(u64::MAX)
}

impl Controller for Pace {
    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.inner.metrics();
        metrics.pacing_rate = metrics.pacing_rate.map(raised);
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), mtu: self.mtu, short: self.short.clone() })
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, packet: u64, app_limited: bool, rtt: &RttEstimator) {
        if let Some(short) = self.short.take_if(|_| rtt.min() < SHORT) {
            self.inner = short.build(now, self.mtu);
        }
        self.inner.on_ack(now, sent, bytes, packet, app_limited, rtt);
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.mtu = mtu;
        self.inner.on_mtu_update(mtu);
    }

    // Every other method passes the call on to the inner controller.

    fn on_sent(&mut self, now: Instant, bytes: u64, largest: u64) {
        self.inner.on_sent(now, bytes, largest);
    }

    fn on_packet_sent(&mut self, now: Instant, bytes: u16, packet: u64) {
        self.inner.on_packet_sent(now, bytes, packet);
    }

    fn on_cwnd_limited(&mut self) {
        self.inner.on_cwnd_limited();
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent: bool,
        is_ecn: bool,
        lost: u64,
        largest: u64,
    ) {
        self.inner.on_congestion_event(now, sent, is_persistent, is_ecn, lost, largest);
    }

    fn on_packet_lost(&mut self, bytes: u16, packet: u64, now: Instant) {
        self.inner.on_packet_lost(bytes, packet, now);
    }

    fn on_spurious_congestion_event(&mut self) {
        self.inner.on_spurious_congestion_event();
    }

    fn on_ack_frequency_update(&mut self, threshold: u64, max_ack_delay: Duration) {
        self.inner.on_ack_frequency_update(threshold, max_ack_delay);
    }

    fn window(&self) -> u64 {
        self.inner.window()
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self.inner.into_any()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Box<dyn Controller>, Box<dyn Controller>, Instant) {
        #[allow(clippy::disallowed_methods, reason = "where an invented clock begins")]
        let now = Instant::now();
        let mut bbr = Bbr3Config::default();
        bbr.initial_window(INITIAL_WINDOW);
        (Arc::new(Paced::default()).build(now, 1200), Arc::new(bbr).build(now, 1200), now)
    }

    fn differ_in_pace_only(paced: &dyn Controller, bbr: &dyn Controller) -> u64 {
        let (ours, theirs) = (paced.metrics(), bbr.metrics());
        let pace = theirs.pacing_rate.unwrap();
        assert_eq!(ours.pacing_rate, Some(pace / 100 * 110 + pace % 100 * 110 / 100));
        assert_eq!(ours.congestion_window, theirs.congestion_window);
        assert_eq!(ours.send_quantum, theirs.send_quantum);
        assert_eq!(ours.bandwidth_estimate, theirs.bandwidth_estimate);
        assert_eq!((paced.window(), paced.initial_window()), (bbr.window(), bbr.initial_window()));
        pace
    }

    #[test]
    fn only_the_pace_differs_from_bbr_whatever_happens() {
        let (mut paced, mut bbr, now) = pair();
        assert_eq!(paced.initial_window(), 38_400);
        let both =
            |paced: &mut Box<dyn Controller>, bbr: &mut Box<dyn Controller>, event: &dyn Fn(&mut dyn Controller)| {
                event(paced.as_mut());
                event(bbr.as_mut());
                differ_in_pace_only(paced.as_ref(), bbr.as_ref());
            };
        assert!(differ_in_pace_only(paced.as_ref(), bbr.as_ref()) > 1_000_000);
        both(&mut paced, &mut bbr, &|controller| {
            (0..10).for_each(|packet| controller.on_packet_sent(now, 1200, packet))
        });
        both(&mut paced, &mut bbr, &|controller| controller.on_mtu_update(1452));
        assert_eq!(format!("{bbr:?}").matches("packet_number").count(), 10);
        both(&mut paced, &mut bbr, &|controller| controller.on_packet_lost(1200, 3, now));
        assert_eq!(format!("{bbr:?}").matches("packet_number").count(), 9, "it heard of the loss");
        assert_eq!(format!("{paced:?}").matches("packet_number").count(), 9, "and so did the one in ours");
        both(&mut paced, &mut bbr, &|controller| controller.on_end_acks(now, 9 * 1200, false, Some(2)));
        both(&mut paced, &mut bbr, &|controller| controller.on_congestion_event(now, now, true, false, 1200, 3));
        assert_eq!(paced.window(), 4 * 1452, "everything was lost for long");
        let mut copy = paced.clone_box();
        both(&mut copy, &mut bbr, &|controller| controller.on_mtu_update(1200));
        assert!(paced.into_any().is::<noq_proto::congestion::Bbr3>(), "for whoever looks what it is");
    }

    #[test]
    fn a_pace_is_raised_by_a_tenth_and_never_overflows() {
        assert_eq!([0, 9, 100, 13_750_000].map(raised), [0, 9, 110, 15_125_000]);
        assert_eq!(raised(u64::MAX), u64::MAX);
    }
}
