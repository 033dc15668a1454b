//! The choice of the next token from the logits.
//!
//! Greedy takes the lowest id among the highest logits. Sampling draws from a seeded BLAKE3 stream, so a seed gives
//! the same draws everywhere; the logits may still differ in their last bits between machines.

use templar_numerics::Kernels;

use super::error::GenerateError;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// The most likely token.
    Greedy,
    /// A draw from the likeliest tokens.
    Draw {
        /// The logits are divided by it: 1 is the model's own distribution; below, sharper. Positive and finite.
        temperature: f32,
        /// Draws come from the fewest likeliest tokens that have this share of the probability: above 0, at most 1.
        top_p: f32,
        /// Seed of the draws.
        seed: [u8; 32],
    },
}

/// Chooses tokens; holds the stream of draws.
#[derive(Debug, Clone)]
pub struct Sampler(Draws);

#[derive(Debug, Clone)]
enum Draws {
    Greedy,
    Draw { inverse: f32, top_p: f64, draws: Box<blake3::OutputReader> },
}

impl Sampler {
    /// A sampler at the start of its draws.
    ///
    /// # Errors
    /// A temperature or a share that is out of its range.
    pub fn new(sampling: Sampling) -> Result<Self, GenerateError> {
        match sampling {
            Sampling::Greedy => Ok(Self(Draws::Greedy)),
            Sampling::Draw { temperature, top_p, seed } => {
                let inverse = 1.0 / temperature;
                if !(inverse.is_finite() && inverse > 0.0) {
                    return Err(GenerateError::Temperature);
                }
                if !(top_p > 0.0 && top_p <= 1.0) {
                    return Err(GenerateError::TopP);
                }
                let mut hasher = blake3::Hasher::new_keyed(&seed);
                hasher.update(b"templar sample/1");
                let draws = Box::new(hasher.finalize_xof());
                Ok(Self(Draws::Draw { inverse, top_p: top_p.into(), draws }))
            }
        }
    }

    /// The id chosen from the logits, which are used up, among those that `is_token` says are tokens.
    ///
    /// # Errors
    /// A logit that is not finite, or no token to choose.
    pub fn next(&mut self, logits: &mut [f32], is_token: &[bool]) -> Result<u32, GenerateError> {
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(GenerateError::NonFinite);
        }
        // Rows beyond the vocabulary stay behind every token.
        let known = |id: usize| is_token.get(id).copied().unwrap_or(false);
        let best = (0..logits.len()).filter(|&id| known(id)).reduce(
            |best, id| {
                if logits[id] > logits[best] { id } else { best }
            },
        );
        let Some(best) = best else { return Err(GenerateError::NoTokens) };
        let chosen = match &mut self.0 {
            Draws::Greedy => best,
            Draws::Draw { inverse, top_p, draws } => {
                let mut bytes = [0u8; 8];
                draws.fill(&mut bytes);
                let draw = (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64;
                // The highest logit is taken off first, so that a low temperature sharpens instead of overflowing.
                let highest = logits[best];
                for (id, logit) in logits.iter_mut().enumerate() {
                    *logit = if known(id) { *logit - highest } else { f32::MIN };
                }
                let kernels = Kernels::best();
                kernels.scale_in_place(logits, *inverse);
                kernels.softmax(logits);
                if *top_p < 1.0 {
                    keep_nucleus(logits, *top_p);
                }
                pick(logits, draw)
            }
        };
        Ok(chosen as u32)
    }
}

/// Sets all probabilities to 0 but those of the fewest likeliest tokens that have the share `top_p` together. Of
/// equally likely tokens the lower id comes first.
fn keep_nucleus(probabilities: &mut [f32], top_p: f64) {
    let mut order: Vec<usize> = (0..probabilities.len()).filter(|&id| probabilities[id] > 0.0).collect();
    order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]).then(a.cmp(&b)));
    let total: f64 = probabilities.iter().map(|&p| f64::from(p)).sum();
    let mut sum = 0.0;
    let kept = order.iter().take_while(|&&id| {
        let needed = sum < top_p * total;
        sum += f64::from(probabilities[id]);
        needed
    });
    let kept = kept.count();
    for &id in &order[kept..] {
        probabilities[id] = 0.0;
    }
}

/// The first id at which the running sum of probabilities exceeds `draw` times their total.
fn pick(probabilities: &[f32], draw: f64) -> usize {
    let total: f64 = probabilities.iter().map(|&p| f64::from(p)).sum();
    let mut sum = 0.0;
    let mut last = 0;
    for (id, &probability) in probabilities.iter().enumerate() {
        if probability > 0.0 {
            last = id;
            sum += f64::from(probability);
            if sum > draw * total {
                return id;
            }
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(temperature: f32, top_p: f32, seed: u8) -> Sampler {
        Sampler::new(Sampling::Draw { temperature, top_p, seed: [seed; 32] }).unwrap()
    }

    #[test]
    fn greedy_takes_the_lowest_id_of_equals() {
        let mut sampler = Sampler::new(Sampling::Greedy).unwrap();
        assert_eq!(sampler.next(&mut [0.5, 2.0, 2.0, -1.0], &[true; 4]).unwrap(), 1);
        assert!(matches!(sampler.next(&mut [0.0, f32::NAN], &[true; 2]), Err(GenerateError::NonFinite)));
    }

    #[test]
    fn a_temperature_draws_by_probability_and_seed() {
        let mut counts = [0u32; 3];
        let mut sampler = draws(1.0, 1.0, 1);
        for _ in 0..4000 {
            // Probabilities 1/2, 1/4, 1/4.
            let mut logits = [std::f32::consts::LN_2, 0.0, 0.0];
            counts[sampler.next(&mut logits, &[true; 3]).unwrap() as usize] += 1;
        }
        assert!(counts[0].abs_diff(2000) < 150 && counts[1].abs_diff(1000) < 150, "{counts:?}");
        let drawn = |seed| {
            let mut sampler = draws(2.0, 1.0, seed);
            (0..20).map(|_| sampler.next(&mut [1.0; 50], &[true; 50]).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        let mut cold = draws(1e-30, 1.0, 1);
        assert_eq!(cold.next(&mut [1e20, 3e20, -1e30], &[true; 3]).unwrap(), 1);
        for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let found = Sampler::new(Sampling::Draw { temperature: bad, top_p: 1.0, seed: [1; 32] });
            assert!(matches!(found, Err(GenerateError::Temperature)), "{bad}");
        }
    }

    #[test]
    fn only_the_nucleus_is_drawn() {
        // Probabilities 0.5, 0.25, 0.125, 0.125: two tokens have 0.75, and a little more needs the third.
        let logits = [0.5f32, 0.25, 0.125, 0.125].map(libm::logf);
        let drawn = |top_p| {
            let mut sampler = draws(1.0, top_p, 3);
            let mut seen = [false; 4];
            for _ in 0..500 {
                seen[sampler.next(&mut logits.clone(), &[true; 4]).unwrap() as usize] = true;
            }
            seen
        };
        assert_eq!(drawn(0.01), [true, false, false, false]);
        assert_eq!(drawn(0.7), [true, true, false, false]);
        assert_eq!(drawn(0.8), [true, true, true, false]);
        assert_eq!(drawn(1.0), [true; 4]);
        for bad in [0.0, -0.1, 1.1, f32::NAN] {
            let found = Sampler::new(Sampling::Draw { temperature: 1.0, top_p: bad, seed: [1; 32] });
            assert!(matches!(found, Err(GenerateError::TopP)), "{bad}");
        }
    }

    #[test]
    fn rows_that_are_no_tokens_are_never_chosen() {
        let is_token = [true, false, true];
        let mut greedy = Sampler::new(Sampling::Greedy).unwrap();
        assert_eq!(greedy.next(&mut [1.0, 9.0, 2.0, 9.0], &is_token).unwrap(), 2);
        let mut sampler = draws(100.0, 1.0, 5);
        for _ in 0..200 {
            assert!([0, 2].contains(&sampler.next(&mut [1.0, 50.0, 1.0, 50.0], &is_token).unwrap()));
        }
        assert!(matches!(greedy.next(&mut [1.0, 2.0], &[false; 2]), Err(GenerateError::NoTokens)));
        assert!(matches!(greedy.next(&mut [], &[]), Err(GenerateError::NoTokens)));
    }

    #[test]
    fn pick_never_leaves_the_support() {
        assert_eq!(pick(&[0.0, 1.0, 0.0], 0.0), 1);
        assert_eq!(pick(&[0.0, 1.0, 0.0], 1.0), 1);
        assert_eq!(pick(&[0.5, 0.5], 0.75), 1);
    }
}
