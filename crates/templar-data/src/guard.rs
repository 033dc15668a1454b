//! Turns panics of other crates' parsers into errors.
//!
//! The parquet and tokenizers crates panic on some malformed inputs, such as a decoder that is not an object,
//! or sizes that overflow. A malformed file from a stranger must give an error that names the file, so calls
//! into these crates go through [`guarded`].

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `parse`. A panic inside becomes an `Err` with the message of the panic. The caller must not use
/// anything further that `parse` was changing at the time.
pub(crate) fn guarded<T>(parse: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(parse)).map_err(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        format!("the parser gave up: {}", said.unwrap_or("no reason given"))
    })
}
