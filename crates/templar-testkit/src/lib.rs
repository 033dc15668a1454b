//! What tests, demos and simulations need and production code may not use: adversaries, test devices, stages.
