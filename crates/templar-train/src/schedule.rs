//! The inner learning rate as a function of the inner step, built from genesis' segments.

use templar_manifest::{Segment, SegmentShape};

/// The learning rate of inner step `step` of the run (counted from 0 over all windows, H to a window, also
/// where a miner took fewer). Within a segment of `n` steps, step `i` of it has the fraction `i / n` of the way
/// from `from` to `to`, straight or as `(1 − cos(π i / n)) / 2`; after the last segment its `to` stays.
/// Computed in f64 (cosine by the `libm` crate) and rounded once to f32.
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

    /// The schedule of Covenant's run over its life, in one list: warm-up, cosine, a constant stretch, a second
    /// warm-up after a restart, the cosine's rest, then annealing to zero.
    #[test]
    fn flatten_re_warm_up_and_anneal_to_zero_are_segments() {
        let segment = |steps, from_nanos, to_nanos, shape| Segment { steps, from_nanos, to_nanos, shape };
        let segments = [
            segment(1500, 0, 120_000, SegmentShape::Linear),
            segment(70_000, 120_000, 66_000, SegmentShape::Cosine),
            segment(13_500, 66_000, 66_000, SegmentShape::Linear),
            segment(30, 2_200, 66_000, SegmentShape::Linear),
            segment(70_000, 66_000, 12_000, SegmentShape::Cosine),
            segment(100, 0, 30_000, SegmentShape::Linear),
            segment(4500, 30_000, 0, SegmentShape::Linear),
        ];
        for (step, nanos) in [
            (0, 0),
            (750, 60_000),
            (1500, 120_000),
            (36_500, 93_000),
            (71_500, 66_000),
            (80_000, 66_000),
            (85_000, 2_200),
            (85_015, 34_100),
            (85_030, 66_000),
            (120_030, 39_000),
            (155_030, 0),
            (155_080, 15_000),
            (155_130, 30_000),
            (157_380, 15_000),
            (159_630, 0),
            (1 << 40, 0),
        ] {
            assert_eq!(learning_rate(&segments, step), (f64::from(nanos) / 1e9) as f32, "step {step}");
        }
        // Along the cosines it only falls.
        let falls = |steps: std::ops::Range<u64>| {
            steps.clone().zip(steps.skip(1)).all(|(a, b)| learning_rate(&segments, a) >= learning_rate(&segments, b))
        };
        assert!(falls(1500..85_000) && falls(85_030..155_030));
    }
}
