//! One inner step of AdamW: check the gradient, clip it by its global norm, update parameters and moments.
//!
//! Order: squared norms per tensor in f64 (`templar-numerics`' tree), added in tensor order; one square root; one f32
//! factor. The update itself is element by element. Loshchilov and Hutter, "Decoupled weight decay regularization".

use templar_device::{AdamW, AdamWUpdate, Buffer, Device, DeviceError};

use crate::model::{Model, StepError};

/// The optimizer's constants as genesis records them, in integers; `_ppm` is parts per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdamWSettings {
    /// Decay of the first moment, below 1,000,000.
    pub beta1_ppm: u32,
    /// Decay of the second moment, below 1,000,000.
    pub beta2_ppm: u32,
    /// Raw bits of the f32 added to the root of the second moment; positive.
    pub eps_bits: u32,
    /// Decoupled weight decay of two-dimensional tensors; norms have none.
    pub weight_decay_ppm: u32,
    /// Largest global norm of a gradient, millionths; 0 leaves it as it is.
    pub clip_norm_ppm: u32,
}

impl AdamWSettings {
    /// The original's: betas 0.9 and 0.95, epsilon 1e-8, weight decay 0.1, clip at 1.
    pub fn reference() -> Self {
        Self {
            beta1_ppm: 900_000,
            beta2_ppm: 950_000,
            eps_bits: 1e-8f32.to_bits(),
            weight_decay_ppm: 100_000,
            clip_norm_ppm: 1_000_000,
        }
    }

    fn check(&self) -> Result<(), StepError> {
        let eps = f32::from_bits(self.eps_bits);
        let setting = match () {
            () if self.beta1_ppm >= 1_000_000 => "beta1_ppm",
            () if self.beta2_ppm >= 1_000_000 => "beta2_ppm",
            () if !eps.is_normal() || eps < 0.0 => "eps_bits",
            () => return Ok(()),
        };
        Err(StepError::Setting { setting })
    }
}

fn from_ppm(ppm: u32) -> f64 {
    f64::from(ppm) / 1e6
}

/// `base^exponent` by squaring: bits of the exponent from the lowest, each set bit multiplies the result by the
/// current square, then the square is squared. That order is the definition.
fn power(base: f64, mut exponent: u64) -> f64 {
    let (mut result, mut square) = (1.0f64, base);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= square;
        }
        square *= square;
        exponent >>= 1;
    }
    result
}

/// The optimizer's moments on a device, flat vectors of `[parameter_count]` each.
#[derive(Debug)]
pub struct Moments {
    /// First moments: the decayed mean of the gradients.
    pub first: Buffer,
    /// Second moments: the decayed mean of their squares.
    pub second: Buffer,
}

impl Moments {
    /// Moments before the first step: zeros.
    ///
    /// # Errors
    /// The device has no memory for them.
    pub fn zero(device: &dyn Device, parameters: usize) -> Result<Self, DeviceError> {
        Ok(Self { first: device.zeros(parameters as u64)?, second: device.zeros(parameters as u64)? })
    }
}

/// Which step of the optimizer is taken, and with what.
#[derive(Debug, Clone, Copy)]
pub struct OptimizerStep<'a> {
    /// The optimizer's constants of the run.
    pub settings: &'a AdamWSettings,
    /// The learning rate of this step; finite, not negative.
    pub learning_rate: f32,
    /// The number of this step, from 1: the moments hold one step less.
    pub number: u64,
}

/// Updates `params` and the moments, and returns the gradient's norm before clipping. `grad` is left clipped.
///
/// # Errors
/// Vectors of another length, settings out of range, a gradient that is not finite (the first such tensor is
/// named), a device that fails. On an error nothing has been changed.
pub fn step(
    model: &Model,
    at: OptimizerStep<'_>,
    params: &mut Buffer,
    grad: &mut Buffer,
    moments: &mut Moments,
) -> Result<f64, StepError> {
    let OptimizerStep { settings, learning_rate, number } = at;
    for (what, length) in [
        ("the parameter vector", params.len()),
        ("the gradient", grad.len()),
        ("the first moment", moments.first.len()),
        ("the second moment", moments.second.len()),
    ] {
        model.check_length(what, length)?;
    }
    settings.check()?;
    if !learning_rate.is_finite() || learning_rate < 0.0 {
        return Err(StepError::Setting { setting: "the learning rate" });
    }
    if number == 0 {
        return Err(StepError::Setting { setting: "the step number" });
    }
    let device = &**model.device();
    let norm = gradient_norm(model, grad)?;
    let limit = from_ppm(settings.clip_norm_ppm);
    if settings.clip_norm_ppm > 0 && norm > limit {
        device.scale(grad.all_mut(), (limit / norm) as f32);
    }

    let (beta1, beta2) = (from_ppm(settings.beta1_ppm), from_ppm(settings.beta2_ppm));
    let decayed = AdamW {
        lr: learning_rate,
        beta1: beta1 as f32,
        beta2: beta2 as f32,
        eps: f32::from_bits(settings.eps_bits),
        weight_decay: from_ppm(settings.weight_decay_ppm) as f32,
        bias1: (1.0 - power(beta1, number)) as f32,
        bias2: (1.0 - power(beta2, number)) as f32,
    };
    let plain = AdamW { weight_decay: 0.0, ..decayed };
    for (tensor, place) in model.tensors().iter().zip(model.places()) {
        let settings = if tensor.shape.len() == 2 { &decayed } else { &plain };
        let update = AdamWUpdate {
            params: params.view_mut(place.clone()),
            gradient: grad.view(place.clone()),
            first: moments.first.view_mut(place.clone()),
            second: moments.second.view_mut(place.clone()),
        };
        device.adamw(settings, update);
    }
    Ok(norm)
}

/// The global norm of a gradient, f64: the tensors' squared norms added in their order, then one square root.
fn gradient_norm(model: &Model, grad: &Buffer) -> Result<f64, StepError> {
    let device = &**model.device();
    let mut squares = 0.0f64;
    let norms = device.squared_norms(grad, model.places())?;
    for ((tensor, place), square) in model.tensors().iter().zip(model.places()).zip(norms) {
        // Squares of finite f32 cannot overflow an f64, so only a non-finite element makes this sum so.
        if !square.is_finite() {
            let index = device.first_non_finite(grad.view(place.clone()))?.unwrap_or(0) as usize;
            return Err(StepError::NonFiniteGradient { tensor: tensor.name.clone(), index });
        }
        squares += square;
    }
    Ok(squares.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_by_squaring() {
        assert_eq!(power(0.9, 1), 0.9);
        assert_eq!(power(0.5, 10), 1.0 / 1024.0);
        assert!((power(0.95, 1000) / libm::pow(0.95, 1000.0) - 1.0).abs() < 1e-12);
        assert_eq!(power(0.9, u64::MAX), 0.0);
    }
}
