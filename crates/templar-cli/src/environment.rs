//! Reads the environment. No other file of the workspace does.
//!
//! | variable | meaning |
//! |---|---|
//! | `TEMPLAR_HOME` | the home, unless `--home` names one |
//! | `HOME` | the directory of the default home, `.templar` |
//! | `TEMPLAR_BIND`, `TEMPLAR_LAN`, `TEMPLAR_RELAY` | the same as the flag of that name, unless the flag is given |
//! | `TEMPLAR_ADVERTISE`, `TEMPLAR_METRICS` | likewise |
//! | `TEMPLAR_LIMITS` | the same as `--limit`, with commas between several limits |
//! | `TEMPLAR_ISA` | the instruction set of the kernels: `soft`, `avx2`, `avx512` or `neon` |
//! | `TEMPLAR_DEVICE` | the device that computes, unless `--device` names one: `auto`, `cpu`, `opencl:0` |
//! | `TEMPLAR_RECHECK` | one training step and one measured page of so many of a GPU's are computed again on the CPU |
//! | `XDG_CACHE_HOME` | the directory of caches, else `.cache` in `HOME`: programs that were compiled for devices |
//! | `TEMPLAR_RECOMPUTE` | if set, training keeps only the input of each layer: less memory, more work |
//! | `NO_COLOR` | if set, no colour |
//! | `COLUMNS` | the width at which prose is wrapped [default: the terminal's width] |
//!
//! rayon itself reads `RAYON_NUM_THREADS`; the demo chooses a number for its nodes unless it is set. No result depends
//! on the number of threads, on the instruction set, on the device, or on recomputing.
#![allow(clippy::disallowed_methods, reason = "this is the file that reads the environment")]

use std::env;
use std::path::PathBuf;
use std::str::FromStr;

use templar_device::DeviceChoices;
use templar_node::settings::NetworkSettings;

use crate::address::address;

/// The settings in the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Environment {
    /// The home, unless the command line names one.
    pub home: Option<PathBuf>,
    /// The instruction set that the kernels must use.
    pub isa: Option<String>,
    /// The device that computes, or a sentence about a name that no device has.
    pub device: Result<Option<DeviceChoices>, String>,
    /// How seldom the CPU checks samples of a device's work, or a sentence about a value that is no number.
    pub recheck: Result<Option<u32>, String>,
    /// The directory for programs that were compiled for devices.
    pub device_cache: Option<PathBuf>,
    /// Whether training recomputes activations to save memory.
    pub recompute: bool,
    /// The network settings, or a sentence about the variable that is wrong.
    pub network: Result<NetworkSettings, String>,
    /// Whether the user chose the number of compute threads.
    pub chooses_threads: bool,
    /// Whether colour is switched off.
    pub no_color: bool,
    /// The width at which prose is wrapped.
    pub columns: Option<usize>,
}

impl Environment {
    /// Reads the environment of this process.
    pub(crate) fn read() -> Self {
        let filled = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let cache = filled("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| filled("HOME").map(|home| PathBuf::from(home).join(".cache")));
        let user = || filled("HOME").map(|home| PathBuf::from(home).join(".templar"));
        Self {
            home: filled("TEMPLAR_HOME").map(PathBuf::from).or_else(user),
            isa: filled("TEMPLAR_ISA").map(|isa| isa.to_string_lossy().into_owned()),
            device: device(filled("TEMPLAR_DEVICE").map(|name| name.to_string_lossy().into_owned())),
            recheck: recheck(filled("TEMPLAR_RECHECK").map(|count| count.to_string_lossy().into_owned())),
            device_cache: cache.map(|cache| cache.join("templar").join("devices")),
            recompute: filled("TEMPLAR_RECOMPUTE").is_some(),
            network: network(|name| filled(name).map(|value| value.to_string_lossy().into_owned())),
            chooses_threads: filled("RAYON_NUM_THREADS").is_some(),
            no_color: filled("NO_COLOR").is_some(),
            columns: filled("COLUMNS").and_then(|value| columns(&value.to_string_lossy())),
        }
    }
}

/// The number of columns that the variable says. Shells set it; a value that is none counts as not set.
fn columns(value: &str) -> Option<usize> {
    value.parse().ok().filter(|columns| *columns > 0)
}

/// The number that a variable says.
fn recheck(count: Option<String>) -> Result<Option<u32>, String> {
    let read =
        |count: String| count.parse().map_err(|_| format!("TEMPLAR_RECHECK: {count:?}: expected a whole number"));
    count.map(read).transpose()
}

/// The device that a variable names.
fn device(named: Option<String>) -> Result<Option<DeviceChoices>, String> {
    named.map(|name| name.parse().map_err(|error| format!("TEMPLAR_DEVICE: {error}"))).transpose()
}

/// Reads the variables about the network; `filled` gives the value of a variable that is not empty.
fn network(filled: impl Fn(&str) -> Option<String>) -> Result<NetworkSettings, String> {
    let read = |name: &str| filled(name).map(|value| address(&value).map_err(|error| format!("{name}: {error}")));
    fn parsed<T: FromStr<Err: std::fmt::Display>>(name: &str, value: Option<String>) -> Result<Option<T>, String> {
        value.map(|value| value.parse().map_err(|error| format!("{name}: {error}"))).transpose()
    }
    let lan = |value: String| value.parse().map_err(|_| format!("TEMPLAR_LAN: {value:?} is neither true nor false"));
    let advertise = filled("TEMPLAR_ADVERTISE").map(|list| {
        let addrs = list.split(',').map(address);
        addrs.collect::<Result<Vec<_>, _>>().map_err(|error| format!("TEMPLAR_ADVERTISE: {error}"))
    });
    Ok(NetworkSettings {
        bind: read("TEMPLAR_BIND").transpose()?,
        lan: filled("TEMPLAR_LAN").map(lan).transpose()?,
        relay: parsed("TEMPLAR_RELAY", filled("TEMPLAR_RELAY"))?,
        advertise: advertise.transpose()?,
        metrics: read("TEMPLAR_METRICS").transpose()?,
        limits: parsed("TEMPLAR_LIMITS", filled("TEMPLAR_LIMITS"))?.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_width_is_a_positive_number() {
        assert_eq!(["80", "0", "wide", ""].map(columns), [Some(80), None, None, None]);
    }

    #[test]
    fn the_rate_of_rechecks_is_a_number() {
        assert_eq!(recheck(None), Ok(None));
        assert_eq!(recheck(Some("0".to_owned())), Ok(Some(0)));
        assert!(recheck(Some("often".to_owned())).unwrap_err().starts_with("TEMPLAR_RECHECK: \"often\": "));
    }

    #[test]
    fn a_device_is_named_or_not_named() {
        assert_eq!(device(None), Ok(None));
        assert_eq!(device(Some("opencl:1".to_owned())).unwrap().unwrap().to_string(), "opencl:1");
        assert!(device(Some("gpu".to_owned())).unwrap_err().starts_with("TEMPLAR_DEVICE: no device is called"));
    }

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
