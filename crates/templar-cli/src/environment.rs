//! The environment: the one file of the workspace that reads it.
//!
//! | variable | says |
//! |---|---|
//! | `TEMPLAR_HOME` | the home, where `--home` does not |
//! | `HOME` | where `.templar` is, where neither does |
//! | `TEMPLAR_BIND`, `TEMPLAR_LAN`, `TEMPLAR_RELAY`, `TEMPLAR_ADVERTISE`, `TEMPLAR_METRICS` | what the flag of that name says, where it does not |
//! | `TEMPLAR_LIMITS` | what `--limit` says, with commas between several |
//! | `TEMPLAR_ISA` | the instruction set of the kernels: `soft`, `avx2`, `avx512`, `neon`; no result depends on it |
//! | `TEMPLAR_RECOMPUTE` | that training keeps each layer's input alone: less memory, more work; no result depends on it |
//! | `NO_COLOR` | no colour |
//!
//! `RAYON_NUM_THREADS` is read by rayon itself; no result depends on it either.
#![allow(clippy::disallowed_methods, reason = "this is the file that reads the environment")]

use std::env;
use std::path::PathBuf;
use std::str::FromStr;

use templar_node::settings::NetworkSettings;

/// What the environment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Environment {
    /// The home, where the command line names none.
    pub home: Option<PathBuf>,
    /// The instruction set that is asked for.
    pub isa: Option<String>,
    /// Whether activations are recomputed.
    pub recompute: bool,
    /// How the network is used, where the command line does not say; or which variable makes no sense.
    pub network: Result<NetworkSettings, String>,
    /// Whether colour is not wanted.
    pub no_color: bool,
}

impl Environment {
    /// Reads it.
    pub(crate) fn read() -> Self {
        let filled = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let user = || filled("HOME").map(|home| PathBuf::from(home).join(".templar"));
        Self {
            home: filled("TEMPLAR_HOME").map(PathBuf::from).or_else(user),
            isa: filled("TEMPLAR_ISA").map(|isa| isa.to_string_lossy().into_owned()),
            recompute: filled("TEMPLAR_RECOMPUTE").is_some(),
            network: network(|name| filled(name).map(|value| value.to_string_lossy().into_owned())),
            no_color: filled("NO_COLOR").is_some(),
        }
    }
}

/// The variables that say how the network is used.
fn network(filled: impl Fn(&str) -> Option<String>) -> Result<NetworkSettings, String> {
    fn parsed<T: FromStr<Err: std::fmt::Display>>(name: &str, value: Option<String>) -> Result<Option<T>, String> {
        value.map(|value| value.parse().map_err(|error| format!("{name}: {error}"))).transpose()
    }
    let advertise = filled("TEMPLAR_ADVERTISE").map(|list| {
        let addrs = list.split(',').map(|addr| addr.trim().parse());
        addrs.collect::<Result<Vec<_>, _>>().map_err(|error| format!("TEMPLAR_ADVERTISE: {error}"))
    });
    Ok(NetworkSettings {
        bind: parsed("TEMPLAR_BIND", filled("TEMPLAR_BIND"))?,
        lan: parsed("TEMPLAR_LAN", filled("TEMPLAR_LAN"))?,
        relay: parsed("TEMPLAR_RELAY", filled("TEMPLAR_RELAY"))?,
        advertise: advertise.transpose()?,
        metrics: parsed("TEMPLAR_METRICS", filled("TEMPLAR_METRICS"))?,
        limits: parsed("TEMPLAR_LIMITS", filled("TEMPLAR_LIMITS"))?.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_as_variables_say() {
        let say =
            |name: &'static str, value: &'static str| network(move |asked| (asked == name).then(|| value.to_owned()));
        assert_eq!(network(|_| None), Ok(NetworkSettings::default()));
        assert_eq!(say("TEMPLAR_LAN", "true").unwrap().lan, Some(true));
        let advertise = say("TEMPLAR_ADVERTISE", "203.0.113.7:4433, [2001:db8::7]:4433").unwrap().advertise;
        assert_eq!(advertise.unwrap().len(), 2);
        let limits = say("TEMPLAR_LIMITS", "upload=1MB,connections=9").unwrap().limits.limits();
        assert_eq!((limits.serving.bytes_per_second, limits.connections.max_inbound), (Some(1_000_000), 9));
        let others = ["TEMPLAR_ADVERTISE", "TEMPLAR_METRICS", "TEMPLAR_LIMITS"];
        for name in ["TEMPLAR_BIND", "TEMPLAR_LAN", "TEMPLAR_RELAY"].into_iter().chain(others) {
            assert!(say(name, "perhaps").unwrap_err().starts_with(name));
        }
    }
}
