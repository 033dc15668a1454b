//! The addresses of the site: which page a path means, and in which form.

use templar_manifest::WindowIndex;

/// The longest path and query that are read, in bytes.
const MAX_PATH: usize = 512;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A page for people.
    Html,
    /// The same as JSON, at the same path with `.json`.
    Json,
}

/// The two parts of a dataset, as paths name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The text that miners train on.
    Training,
    /// The text that is held out to measure the loss.
    HeldOut,
}

impl Part {
    /// The name in paths.
    pub fn name(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::HeldOut => "held-out",
        }
    }
}

/// A page of the site. Names of miners, validators and objects are as they were typed: a whole id, or its first digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The run.
    Run,
    /// The closed windows, the newest first: those before this one, or all.
    Windows(Option<WindowIndex>),
    /// One window.
    Window(WindowIndex),
    /// All miners.
    Miners,
    /// One miner.
    Miner(String),
    /// Why a miner was paid what it was paid in a window.
    Pay(String, WindowIndex),
    /// One validator.
    Validator(String),
    /// Any object by its hash.
    Object(String),
    /// The dataset.
    Dataset,
    /// The text of a page of the dataset.
    Page(Part, u64),
    /// The audit.
    Audit,
    /// Whatever a person typed into the field for a search.
    Find(String),
}

impl Place {
    /// Reads the path of a request, and its query where a page has one. `None` if the site has no such path.
    pub fn parse(path: &str, query: Option<&str>) -> Option<(Self, Form)> {
        if path.len() > MAX_PATH {
            return None;
        }
        let (path, form) = match path.strip_suffix(".json") {
            Some(path) => (path, Form::Json),
            None => (path, Form::Html),
        };
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let window = |text: &str| number(text).map(WindowIndex);
        let place = match parts[..] {
            [""] | ["run"] => Self::Run,
            ["windows"] => Self::Windows(field(query, "before").as_deref().and_then(window)),
            ["window", number] => Self::Window(window(number)?),
            ["miners"] => Self::Miners,
            ["miner", key] => Self::Miner(key.to_owned()),
            ["miner", key, "pay", number] => Self::Pay(key.to_owned(), window(number)?),
            ["validator", key] => Self::Validator(key.to_owned()),
            ["object", hash] => Self::Object(hash.to_owned()),
            ["dataset"] => Self::Dataset,
            ["dataset", "training", page] => Self::Page(Part::Training, number(page)?),
            ["dataset", "held-out", page] => Self::Page(Part::HeldOut, number(page)?),
            ["audit"] => Self::Audit,
            ["find"] => Self::Find(field(query, "q").unwrap_or_default()),
            _ => return None,
        };
        Some((place, form))
    }

    /// The path of the page, without `.json` and query.
    pub fn path(&self) -> String {
        match self {
            Self::Run => "/run".to_owned(),
            Self::Windows(_) => "/windows".to_owned(),
            Self::Window(window) => format!("/window/{window}"),
            Self::Miners => "/miners".to_owned(),
            Self::Miner(key) => format!("/miner/{key}"),
            Self::Pay(key, window) => format!("/miner/{key}/pay/{window}"),
            Self::Validator(key) => format!("/validator/{key}"),
            Self::Object(hash) => format!("/object/{hash}"),
            Self::Dataset => "/dataset".to_owned(),
            Self::Page(part, page) => format!("/dataset/{}/{page}", part.name()),
            Self::Audit => "/audit".to_owned(),
            Self::Find(_) => "/find".to_owned(),
        }
    }
}

/// A number without sign, space or leading zero, so that every page has one path.
fn number(text: &str) -> Option<u64> {
    let is_plain = text == "0" || (text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0'));
    is_plain.then(|| text.parse().ok()).flatten()
}

/// The value of a field of a query or of a form, with its escapes decoded.
pub fn field(query: Option<&str>, name: &str) -> Option<String> {
    let query = query.filter(|query| query.len() <= MAX_PATH)?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(decoded(value))
}

/// A value of a query with `+` and `%xx` decoded. Bytes that are no text become a mark.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).map(|digit| digit as u8);
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => bytes.push(high << 4 | low),
                _ => bytes.push(b'?'),
            },
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_one_path_and_a_twin() {
        let key = "ab".repeat(32);
        let pages = [
            "/run",
            "/windows",
            "/window/0",
            "/window/12",
            "/miners",
            "/dataset",
            "/dataset/training/7",
            "/dataset/held-out/0",
            "/audit",
            "/find",
        ];
        let more =
            ["miner/K", "miner/K/pay/3", "validator/K", "object/K"].map(|path| format!("/{path}").replace('K', &key));
        for path in pages.map(str::to_owned).into_iter().chain(more) {
            let (place, form) = Place::parse(&path, None).unwrap();
            assert_eq!((place.path(), form), (path.clone(), Form::Html));
            assert_eq!(Place::parse(&format!("{path}.json"), None), Some((place, Form::Json)));
        }
        assert_eq!(Place::parse("/", None), Some((Place::Run, Form::Html)));
    }

    #[test]
    fn other_paths_are_none() {
        for path in [
            "",
            "run",
            "//run",
            "/run/",
            "/window",
            "/window/",
            "/window/-1",
            "/window/+1",
            "/window/01",
            "/window/1x",
            "/window/99999999999999999999",
            "/dataset/other/1",
            "/miner/a/b",
            "/..",
            "/run.json.json",
            "/object/a/..",
        ] {
            assert_eq!(Place::parse(path, None), None, "{path}");
        }
        assert_eq!(Place::parse(&format!("/object/{}", "a".repeat(MAX_PATH)), None), None);
    }

    #[test]
    fn fields_are_decoded_and_bounded() {
        assert_eq!(field(Some("q=a+b%2Fc&x=1"), "q").as_deref(), Some("a b/c"));
        assert_eq!(field(Some("q=%"), "q").as_deref(), Some("?"));
        assert_eq!(field(Some("q=%ff%zz"), "q").as_deref(), Some("\u{fffd}?"));
        assert_eq!(field(Some("qq=1"), "q"), None);
        assert_eq!(field(Some(&"q".repeat(600)), "q"), None);
        let before = Place::parse("/windows", Some("before=100")).unwrap().0;
        assert_eq!(before, Place::Windows(Some(WindowIndex(100))));
    }
}
