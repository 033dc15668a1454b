//! Functions of Python's strings, as far as prompts depend on them.

/// Whether Python's `str.isspace` counts a character: Unicode's white space, and four separators of ASCII.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// `str.strip()`.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// A text without the white space at its end, and that white space.
pub(crate) fn split_trailing_space(text: &str) -> (&str, &str) {
    text.split_at(text.trim_end_matches(is_space).len())
}

/// `str.capitalize()`: the first character in title case, and **all others in lower case**.
pub(super) fn capitalize(text: &str) -> String {
    let Some(first) = text.chars().next() else { return String::new() };
    // The whole text becomes lower case, since a sigma depends on what stands before it.
    let lower = text.to_lowercase().chars().skip(first.to_lowercase().count()).collect::<String>();
    title(first) + &lower
}

/// A character in title case, where that differs from upper case.
fn title(character: char) -> String {
    match character {
        'ß' => "Ss".to_owned(),
        'Ǆ'..='ǆ' => 'ǅ'.to_string(),
        'Ǉ'..='ǉ' => 'ǈ'.to_string(),
        'Ǌ'..='ǌ' => 'ǋ'.to_string(),
        'Ǳ'..='ǳ' => 'ǲ'.to_string(),
        _ => character.to_uppercase().collect(),
    }
}

/// `re.sub(r"\[.*?\]", "", text)`: a bracket, and what follows up to the next closing one on its line, are left out.
pub(super) fn without_brackets(text: &str) -> String {
    let (mut kept, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(open) = rest.find('[') {
        let inside = &rest[open + 1..];
        let end = inside.find([']', '\n']).filter(|&end| inside.as_bytes()[end] == b']');
        let next = end.map_or(open + 1, |end| open + 1 + end + 1);
        kept.push_str(&rest[..end.map_or(open + 1, |_| open)]);
        rest = &rest[next..];
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_python_does_it() {
        // python3 -c 'print("then John and MARY".capitalize())', and so on.
        assert_eq!(capitalize("then John and MARY"), "Then john and mary");
        assert_eq!(capitalize("ßA ΟΔΟΣ"), "Ssa οδος");
        assert_eq!(capitalize("ǆA"), "ǅa");
        assert_eq!(capitalize("İX"), "İx");
        assert_eq!(capitalize(""), "");
        assert_eq!(strip("\u{1c}\u{a0} a b\n\u{3000}"), "a b");
        assert_eq!(split_trailing_space("a \n\u{1f}"), ("a", " \n\u{1f}"));
    }

    #[test]
    fn brackets_go_as_the_pattern_takes_them() {
        assert_eq!(without_brackets("[substeps] x [a [b] c] [d\ne] f ]["), " x  c] [d\ne] f ][");
        assert_eq!(without_brackets("[\n[a]b"), "[\nb");
        assert_eq!(without_brackets("é[é]é"), "éé");
    }
}
