//! What the trainer promises: a window is a function, and a replay finds every way in which a claim departs from it.

mod support;
mod window;
