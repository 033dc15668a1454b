//! The rotary embedding of a `config.json`.
//!
//! transformers 4 writes the base as `rope_theta` and a scaling as `rope_scaling`. transformers 5 writes both into
//! `rope_parameters`. A file with both may mean either: transformers 5 lets the older key replace the newer one
//! whole, base included, and other readers do not. So they must say the same, or the file is refused as
//! ambiguous.

use serde_json::Value;
use templar_manifest::RopeScaling;

use super::error::ImportError;
use super::json::shortened;

/// The base that is meant where none is stated.
const BASE: f64 = 10_000.0;
const NEWER: &str = "rope_parameters";
const OLDER: &str = "rope_scaling";

/// The base of the frequencies.
pub(super) fn base(config: &Value) -> Result<u32, ImportError> {
    let stated = [&config["rope_theta"], &config[NEWER]["rope_theta"], &config[OLDER]["rope_theta"]];
    let mut bases = Vec::new();
    for value in stated.into_iter().filter(|value| !value.is_null()) {
        match value.as_f64() {
            Some(base) if base.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&base) => bases.push(base),
            _ => return Err(ImportError::Unsupported { what: "rope_theta", found: shortened(value) }),
        }
    }
    if let [first, others @ ..] = &bases[..]
        && let Some(other) = others.iter().find(|other| *other != first)
    {
        return Err(ImportError::AmbiguousRope { said: format!("rope_theta is both {first} and {other}") });
    }
    Ok(bases.first().copied().unwrap_or(BASE) as u32)
}

/// The scaling of the frequencies.
pub(super) fn scaling(config: &Value) -> Result<Option<RopeScaling>, ImportError> {
    let (newer, older) = (&config[NEWER], &config[OLDER]);
    if !newer.is_null() && !older.is_null() && newer != older {
        let said = format!("{NEWER} is {}, and {OLDER} is {}", shortened(newer), shortened(older));
        return Err(ImportError::AmbiguousRope { said });
    }
    refuse_partial(&config["partial_rotary_factor"])?;
    match (older, newer) {
        (Value::Null, Value::Null) => Ok(None),
        (Value::Null, newer) => read(NEWER, newer),
        (older, _) => read(OLDER, older),
    }
}

/// A part of each head that is not turned.
fn refuse_partial(factor: &Value) -> Result<(), ImportError> {
    match factor.as_f64() {
        _ if factor.is_null() => Ok(()),
        Some(1.0) => Ok(()),
        _ => Err(ImportError::Unsupported { what: "partial_rotary_factor", found: shortened(factor) }),
    }
}

/// Whether an object of the newer key has nothing but a base: no factor, and no objects for kinds of layers.
fn is_base_alone(value: &Value) -> bool {
    value
        .as_object()
        .is_some_and(|entries| !entries.contains_key("factor") && entries.values().all(|entry| !entry.is_object()))
}

/// The scaling that `value` of key `what` describes, or what of it is not supported.
fn read(what: &'static str, value: &Value) -> Result<Option<RopeScaling>, ImportError> {
    refuse_partial(&value["partial_rotary_factor"])?;
    let refused = || ImportError::Unsupported { what, found: shortened(value) };
    let millionths = |key: &str| {
        let number = value.get(key).and_then(Value::as_f64).ok_or_else(refused)?;
        // `as` saturates, and what was rounded or cut is then not equal.
        let ppm = (number * 1e6).round() as u32;
        if f64::from(ppm) / 1e6 == number { Ok(ppm) } else { Err(refused()) }
    };
    let kind = value.get("rope_type").or_else(|| value.get("type"));
    match kind.map(|kind| kind.as_str().unwrap_or_default()) {
        Some("default") => Ok(None),
        // Newer writers keep the base here too, with or without a scaling.
        None if what == NEWER && is_base_alone(value) => Ok(None),
        Some("linear") => Ok(Some(RopeScaling::Linear { factor_ppm: millionths("factor")? })),
        Some("llama3") => {
            let original = value.get("original_max_position_embeddings").and_then(Value::as_u64);
            Ok(Some(RopeScaling::Llama3 {
                factor_ppm: millionths("factor")?,
                low_freq_factor_ppm: millionths("low_freq_factor")?,
                high_freq_factor_ppm: millionths("high_freq_factor")?,
                original_positions: original.and_then(|original| original.try_into().ok()).ok_or_else(refused)?,
            }))
        }
        Some(kind) if !kind.is_empty() => Err(ImportError::RopeKind { kind: kind.chars().take(40).collect() }),
        _ => Err(refused()),
    }
}
