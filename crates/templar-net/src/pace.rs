//! How fast connections send: BBR's model of the path, paced a little above what it says, and CUBIC where the path is short.
//!
//! noq's BBR follows the draft's text in when it forgets its highest delivery rate: while acknowledgements of a probe are still
//! awaited, that is for the whole cruise of some sixty round trips, the maximum reaches back two round trips only
//! (BBRAdaptLongTermModel and BBRAdvanceMaxBwFilter in draft-ietf-ccwg-bbr). It paces one percent below this maximum, so what is
//! delivered is one percent less, and becomes the maximum: the rate sinks by a quarter until the next probe, on an empty
//! line too. Asked for a little more than the maximum, the line itself says what it delivers. What is sent too much waits in
//! its queue and is bounded by the congestion window, which stays BBR's.
//!
//! Where a round trip is shorter than what timers can tell apart, on loopback and between neighbours, a pace is made of bursts, each
//! late by a timer, and what is delivered at it is what the timers let through; the bursts overflow the receiver's buffer, and BBR
//! takes that for the path's. There a window alone is enough, and a loss made good at once: CUBIC. `BENCH.md` has what both bring.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use noq_proto::RttEstimator;
use noq_proto::congestion::{Bbr3Config, Controller, ControllerFactory, ControllerMetrics, CubicConfig};

/// The pace in hundredths of BBR's: its margin of one, and what the pacer forfeits when it is woken late.
const PERCENT: u64 = 110;

/// Bytes that are sent before anything is confirmed: 32 packets, as Chromium's QUIC does, where RFC 9002 has ten. On a long way
/// that spares nearly two round trips.
const INITIAL_WINDOW: u64 = 32 * 1200;

/// A shorter round trip than this is as short as a timer's tick.
const SHORT: Duration = Duration::from_millis(1);

/// Makes a controller for each path.
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

/// A controller that asks for more than the one in it, until the path turns out to be short.
#[derive(Debug)]
struct Pace {
    inner: Box<dyn Controller>,
    /// Bytes of a datagram.
    mtu: u16,
    /// What a short path gets, until it has it.
    short: Option<Arc<CubicConfig>>,
}

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

    // Everything else is the inner one's.

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
