//! The seam between the model and the hardware that computes it.
