//! `templar init`: makes a home with a new key. Nothing is ever overwritten.

use serde_json::json;
use templar_home::Home;
use templar_manifest::SecretKey;

use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::printer::path_text;

/// Make a home with a new key, overwriting nothing
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// Derive the key from a text instead of the system's randomness: anyone with the text has the key
    #[arg(long, hide = true, value_name = "SEED")]
    key_from_seed: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, args: &InitArgs) -> CommandResult {
    let key = match &args.key_from_seed {
        Some(seed) => {
            invocation.printer.warn("a key from a seed is insecure: anyone with the seed has the key");
            insecure_key(seed)
        }
        None => random_key()?,
    };
    let home = Home::init(invocation.root()?, &key)?;
    if args.key_from_seed.is_some() {
        home.mark_insecure()?;
    }
    let public = key.public();
    invocation.printer.data(
        &json!({"home": path_text(home.root()), "key": public, "insecure": args.key_from_seed.is_some()}),
        format_args!("{public}"),
    );
    invocation.printer.talk(format_args!("a new home in {}; its public key is above", home.root().display()));
    Ok(Code::Ok)
}

pub(crate) fn random_key() -> Result<SecretKey, CommandError> {
    random_bytes().map(|bytes| SecretKey::from_bytes(&bytes))
}

/// 32 bytes from the system's source of randomness.
pub(crate) fn random_bytes() -> Result<[u8; 32], CommandError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| CommandError::says(Code::Failed, format_args!("the system gives no random bytes: {error}")))?;
    Ok(bytes)
}

/// The key that follows from a seed, for demonstrations and tests.
fn insecure_key(seed: &str) -> SecretKey {
    // The derivation of a key serves as a hash with a context. The all-zero key is known to everyone, so it
    // adds nothing.
    SecretKey::from_bytes(&SecretKey::from_bytes(&[0; 32]).derive("templar/1 insecure key of a seed", seed.as_bytes()))
}
