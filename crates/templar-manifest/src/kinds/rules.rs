//! The rules that the fields of many kinds obey: short texts, numbers above zero, sorted lists.

/// Most list entries that a manifest may have where the protocol sets no lower bound.
pub const MAX_ENTRIES: usize = 4096;

/// A short printable ASCII text.
pub(super) fn ascii(field: &str, text: &str, max: usize) -> Result<(), String> {
    if text.len() > max {
        return Err(format!("{field} is longer than {max} bytes"));
    }
    if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(format!("{field} holds a byte that is not printable ASCII"));
    }
    Ok(())
}

/// A number that must not be zero.
pub(super) fn positive(field: &str, value: u64) -> Result<(), String> {
    if value == 0 { Err(format!("{field} is zero")) } else { Ok(()) }
}

/// A list whose keys must be strictly ascending, which makes its order canonical and its keys unique.
pub(super) fn ascending<T, K: Ord>(field: &str, list: &[T], key: impl Fn(&T) -> K) -> Result<(), String> {
    if list.len() > MAX_ENTRIES {
        return Err(format!("{field} has {} entries, at most {MAX_ENTRIES} are allowed", list.len()));
    }
    if list.windows(2).any(|pair| key(&pair[0]) >= key(&pair[1])) {
        return Err(format!("{field} is not strictly ascending"));
    }
    Ok(())
}
