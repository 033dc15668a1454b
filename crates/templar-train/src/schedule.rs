//! The inner learning rate as a function of the inner step, built from genesis' segments.

use templar_manifest::{Segment, SegmentShape};

/// The learning rate of inner step `step` of the run (counted from 0 over all windows, H to a window, also where a miner
/// took fewer). Within a segment of `n` steps, step `i` of it has the fraction `i / n` of the way from `from` to `to`,
/// straight or as `(1 − cos(π i / n)) / 2`; after the last segment its `to` stays. Computed in f64 (cosine by the `libm`
/// crate) and rounded once to f32.
pub fn learning_rate(segments: &[Segment], step: u64) -> f32 {
    let mut start = 0u64;
    for segment in segments {
        let within = step - start;
        if within < segment.steps {
            let fraction = within as f64 / segment.steps as f64;
            let way = match segment.shape {
                SegmentShape::Linear => fraction,
                SegmentShape::Cosine => (1.0 - libm::cos(std::f64::consts::PI * fraction)) / 2.0,
            };
            let (from, to) = (segment.from_nanos as f64, segment.to_nanos as f64);
            return ((from + (to - from) * way) / 1e9) as f32;
        }
        start = start.saturating_add(segment.steps);
        if step < start {
            break;
        }
    }
    segments.last().map_or(0.0, |segment| (segment.to_nanos as f64 / 1e9) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_then_cosine_then_constant() {
        let segments = [
            Segment { steps: 10, from_nanos: 0, to_nanos: 1_000_000, shape: SegmentShape::Linear },
            Segment { steps: 100, from_nanos: 1_000_000, to_nanos: 100_000, shape: SegmentShape::Cosine },
        ];
        assert_eq!(learning_rate(&segments, 0), 0.0);
        assert_eq!(learning_rate(&segments, 5), 5e-4);
        assert_eq!(learning_rate(&segments, 10), 1e-3);
        assert_eq!(learning_rate(&segments, 60), 5.5e-4);
        assert_eq!(learning_rate(&segments, 110), 1e-4);
        assert_eq!(learning_rate(&segments, u64::MAX), 1e-4);
    }
}
