//! The inner optimiser's step.

/// The numbers of one AdamW step. All in `f32`; the caller computes the schedule and the bias corrections in `f64` and
/// rounds once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the unbiased second moment.
    pub eps: f32,
    /// Decoupled weight decay, multiplied by `lr`.
    pub weight_decay: f32,
    /// `1 - beta1^t`, t counted from 1.
    pub bias1: f32,
    /// `1 - beta2^t`.
    pub bias2: f32,
}
