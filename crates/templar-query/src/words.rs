//! Values in words, for everybody who shows them to people.

use std::time::Duration;

/// A number of bytes with its unit, such as `1.5 KiB`.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// A time, rounded: `20 s`, `3 min`, `5 h`, `2 days`.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        seconds if seconds < 1.0 => "less than 1 s".to_owned(),
        seconds if seconds < 119.5 => format!("{seconds:.0} s"),
        seconds if seconds < 119.5 * 60.0 => format!("{:.0} min", seconds / 60.0),
        seconds if seconds < 47.5 * 3600.0 => format!("{:.0} h", seconds / 3600.0),
        seconds => format!("{:.0} days", seconds / 86_400.0),
    }
}

/// A loss in 1e-9 nats, as nats with four decimals.
pub fn nats(nanonats: u64) -> String {
    format!("{:.4}", nanonats as f64 / 1e9)
}
