//! The minimum Rust version that the workspace states is enough for its dependencies.
//!
//! Cargo refuses a dependency that needs a newer Rust than the installed version. It accepts one that needs a
//! newer Rust than the stated version, so with a new toolchain nobody would notice. The lint
//! `incompatible_msrv` checks the use of the standard library in our own code.

use std::process::Command;

use serde_json::Value;

/// `1.91` or `1.91.0` as a pair.
fn minor_version(text: &str) -> (u64, u64) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap());
    (parts.next().unwrap(), parts.next().unwrap_or(0))
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn no_dependency_needs_a_newer_rust_than_stated() {
    // Only the dependencies of this platform are sure to have been downloaded.
    let version = output("rustc", &["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let args = ["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", host];
    let metadata: Value = serde_json::from_str(&output(env!("CARGO"), &args)).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let stated = packages.iter().find(|package| package["name"] == "templar").unwrap();
    let stated = minor_version(stated["rust_version"].as_str().unwrap());
    let newer: Vec<String> = packages
        .iter()
        .filter_map(|package| Some((package, package["rust_version"].as_str()?)))
        .filter(|(_, needed)| minor_version(needed) > stated)
        .map(|(package, needed)| format!("{} {} needs {needed}", package["name"], package["version"]))
        .collect();
    assert!(packages.len() > 100, "{} packages", packages.len());
    assert!(newer.is_empty(), "Cargo.toml states {stated:?}: {newer:?}");
}
