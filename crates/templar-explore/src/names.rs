//! What the ids in an address stand for: miners, validators and objects, and what was meant where there is none.

use templar_manifest::{Hash, PublicKey};
use templar_query::reference::Reference;

use crate::page::{Desk, Missing, one_of};

/// The miner that a text names, by its whole key. Another spelling leads to that.
pub(crate) fn miner_key(desk: &Desk<'_>, text: &str, path: impl Fn(&Hash) -> String) -> Result<PublicKey, Missing> {
    key(desk, text, "miner", miners(desk), path)
}

/// The validator that a text names, by its whole key. Another spelling leads to that.
pub(crate) fn validator_key(desk: &Desk<'_>, text: &str) -> Result<PublicKey, Missing> {
    key(desk, text, "validator", validators(desk), |key| format!("/validator/{key}"))
}

fn key(
    desk: &Desk<'_>,
    text: &str,
    role: &str,
    known: Vec<Hash>,
    path: impl Fn(&Hash) -> String,
) -> Result<PublicKey, Missing> {
    match one_of(known.into_iter(), text, &path)? {
        Some(whole) if whole.to_string() == text => Ok(PublicKey::from_bytes(*whole.as_bytes())),
        Some(whole) => Err(Missing::Elsewhere(path(&whole))),
        None => Err(another(desk, text, role)),
    }
}

/// The keys of all miners, now and before, as hashes.
fn miners(desk: &Desk<'_>) -> Vec<Hash> {
    let folded = desk.source.folded();
    let members = folded.node.state().members().iter().map(|member| member.owner);
    members.chain(folded.facts.miners.keys().copied()).map(|key| Hash::from_bytes(*key.as_bytes())).collect()
}

/// The keys of all validators, as hashes.
fn validators(desk: &Desk<'_>) -> Vec<Hash> {
    let validators = &desk.source.context().genesis.validators;
    validators.iter().map(|validator| Hash::from_bytes(*validator.key.as_bytes())).collect()
}

/// Says that a text names nothing of the kind that was asked for, and what it names instead.
pub(crate) fn another(desk: &Desk<'_>, text: &str, asked: &str) -> Missing {
    let title = format!("There is no such {asked}");
    match found(desk, text) {
        Missing::Elsewhere(path) => Missing::NotFound {
            title,
            why: format!("{text} is no {asked} of this run, but something else here has this name."),
            instead: vec![(path.clone(), path)],
        },
        _ => Missing::page(title, format!("No {asked} of this run has an id that is or begins with {text:?}.")),
    }
}

/// What a person means who typed `text`: the address of it, or the reason why there is none.
pub(crate) fn found(desk: &Desk<'_>, text: &str) -> Missing {
    let text = text.trim().to_ascii_lowercase();
    if let Ok(Reference::Window(window)) = text.parse() {
        return Missing::Elsewhere(format!("/window/{window}"));
    }
    let by_key = |known: Vec<Hash>, role: &str| {
        let path = |key: &Hash| format!("/{role}/{key}");
        one_of(known.into_iter(), &text, path).map(|found| found.map(|key| path(&key)))
    };
    let path = |hash: &Hash| format!("/object/{hash}");
    let objects = || {
        let index = desk.source.index(&*desk.source.access()?)?;
        Ok(one_of(index.hashes().into_iter(), &text, path)?.map(|hash| path(&hash)))
    };
    let found = by_key(miners(desk), "miner").and_then(|miner| match miner {
        None => by_key(validators(desk), "validator"),
        found => Ok(found),
    });
    match found.and_then(|found| if found.is_some() { Ok(found) } else { objects() }) {
        Ok(Some(path)) => Missing::Elsewhere(path),
        Ok(None) => Missing::page(
            "Nothing here has this name",
            format!("{text:?} is no id of this run, nor four or more digits of one, nor a window such as w3."),
        ),
        Err(missing) => missing,
    }
}
