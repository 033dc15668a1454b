//! Numbers and texts for people, and the guard that no text of a stranger deceives a reader.

pub use templar_query::words::{bytes, nats, span};

/// A number of things: `1 window`, `3 windows`.
pub fn count(number: impl Into<u64>, thing: &str) -> String {
    let number = number.into();
    format!("{} {thing}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A whole number with its thousands apart: `12,345`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap_or("")).collect();
    groups.join(",")
}

/// A large number, rounded: `1.4k`, `12.3M`.
pub fn amount(value: u64) -> String {
    let value = value as f64;
    match value {
        value if value < 1e4 => format!("{value:.0}"),
        value if value < 1e6 => format!("{:.1}k", value / 1e3),
        value if value < 1e9 => format!("{:.1}M", value / 1e6),
        value if value < 1e12 => format!("{:.1}G", value / 1e9),
        value => format!("{:.1}T", value / 1e12),
    }
}

/// An amount in micro-ALPHA as ALPHA, exact.
pub fn alpha(micros: u64) -> String {
    format!("{}.{:06}", grouped(micros / 1_000_000), micros % 1_000_000)
}

/// A change of a loss in 1e-9 nats, as nats with a sign.
pub fn change(nanonats: i128) -> String {
    format!("{:+.6}", nanonats as f64 / 1e9)
}

/// A fraction in millionths, as a percentage.
pub fn percent(ppm: u64) -> String {
    format!("{}.{:02} %", ppm / 10_000, ppm % 10_000 / 100)
}

/// A number of `unit`ths, such as 1e-9, with all of its digits.
pub fn decimals(value: u64, places: u32) -> String {
    let unit = 10u64.pow(places);
    format!("{}.{:0places$}", value / unit, value % unit, places = places as usize)
}

/// Whether a character could hide or turn around others, or is no part of a page.
fn deceives(c: char) -> bool {
    let is_plain = c.is_ascii_graphic() || matches!(c, ' ' | '\n');
    // Texts in terminals escape the same characters; a page has lines besides.
    !is_plain && !templar_net::escaped(c.encode_utf8(&mut [0; 4])).starts_with(c)
}

/// A page or another text, with every character that could deceive a reader written out, such as `\u{202e}`.
pub fn visible(text: String) -> String {
    if !text.chars().any(deceives) {
        return text;
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if deceives(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// A JSON text with the same characters as JSON's own escapes, so that it still means the same.
pub fn visible_json(text: String) -> String {
    if !text.chars().any(deceives) {
        return text;
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if deceives(c) { shown.push_str(&format!("\\u{:04x}", c as u32)) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn numbers_are_short_or_exact() {
        assert_eq!(
            [grouped(0), grouped(999), grouped(1_000), grouped(12_345_678)],
            ["0", "999", "1,000", "12,345,678"]
        );
        assert_eq!([count(1u32, "window"), count(2_000u32, "window")], ["1 window", "2,000 windows"]);
        assert_eq!([bytes(0), bytes(1536), bytes(3 << 30)], ["0 B", "1.5 KiB", "3.0 GiB"]);
        assert_eq!([amount(82_000), amount(9_999)], ["82.0k", "9999"]);
        assert_eq!([alpha(1), alpha(1_234_500_000)], ["0.000001", "1,234.500000"]);
        assert_eq!([nats(7_638_821_118), change(-1_500)], ["7.6388", "-0.000002"]);
        assert_eq!([percent(338_672), decimals(1_031_250_000, 9)], ["33.86 %", "1.031250000"]);
        assert_eq!(span(Duration::from_secs(7200)), "2 h");
    }

    #[test]
    fn nothing_deceives_and_text_in_other_languages_stays() {
        assert_eq!(visible("größe 日本 עברית\n".to_owned()), "größe 日本 עברית\n");
        assert_eq!(visible("a\u{202e}b\u{1b}[2J\0".to_owned()), "a\\u{202e}b\\u{1b}[2J\\u{0}");
        let json = visible_json(serde_json::to_string("a\u{202e}\u{200b}\u{7f}").unwrap());
        assert!(json.is_ascii(), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), "a\u{202e}\u{200b}\u{7f}");
    }
}
