//! Other people's parsers, kept from ending the process.
//!
//! The parquet and tokenizers crates panic on some malformed inputs (a decoder that is not an object, sizes that
//! overflow). A file from a stranger must be an error with its name, so calls into them go through [`guarded`].

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `parse`; a panic inside becomes `Err` with what it said. Whatever `parse` was changing must not be used after.
pub(crate) fn guarded<T>(parse: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(parse)).map_err(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        format!("the parser gave up: {}", said.unwrap_or("no reason given"))
    })
}
