//! Cargo.lock obeys the bans of `.deny.toml` also where cargo-deny is not installed.

use crate::support::repository_root;

struct Package {
    name: String,
    version: (u64, u64, u64),
    source: Option<String>,
}

fn packages(lock: &str) -> Vec<Package> {
    let field = |block: &str, name: &str| {
        let start = format!("{name} = \"");
        block.lines().find_map(|line| Some(line.strip_prefix(start.as_str())?.strip_suffix('"')?.to_owned()))
    };
    lock.split("[[package]]")
        .skip(1)
        .map(|block| Package {
            name: field(block, "name").expect("a package has a name"),
            version: version(&field(block, "version").expect("a package has a version")),
            source: field(block, "source"),
        })
        .collect()
}

fn version(text: &str) -> (u64, u64, u64) {
    let core = text.split(['-', '+']).next().unwrap_or(text);
    let mut numbers = core.split('.').map(|n| n.parse().expect("a version number"));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

/// Why a package may not be there, if it may not.
fn banned(package: &Package) -> Option<&'static str> {
    match package.name.as_str() {
        name if name.starts_with("aws-lc") => Some("the one crypto provider is ring"),
        "openssl-sys" | "native-tls" => Some("the one TLS is rustls"),
        "rsa" => Some("RUSTSEC-2023-0071; ring verifies RSA"),
        "backoff" => Some("RUSTSEC-2025-0012, unmaintained; use backon"),
        "instant" => Some("RUSTSEC-2024-0384, unmaintained"),
        "rustls-pemfile" => Some("RUSTSEC-2025-0134, unmaintained; rustls-pki-types reads PEM"),
        "rustls" if package.version < (0, 23, 0) => Some("older than 0.23"),
        "h2" if package.version < (0, 4, 16) => Some("older than 0.4.16, which ends denials of service"),
        "hyper" if package.version < (1, 0, 0) => Some("older than 1"),
        _ => None,
    }
}

fn problems(lock: &str) -> Vec<String> {
    let packages = packages(lock);
    let mut problems = Vec::new();
    for package in &packages {
        let (major, minor, patch) = package.version;
        let name = format!("{} {major}.{minor}.{patch}", package.name);
        if let Some(reason) = banned(package) {
            problems.push(format!("{name}: {reason}"));
        }
        match package.source.as_deref() {
            None if package.name == "postern" => {}
            Some("registry+https://github.com/rust-lang/crates.io-index") => {}
            other => problems.push(format!("{name}: its source is {other:?}, not the public registry")),
        }
    }
    if !packages.iter().any(|p| p.name == "ring") {
        problems.push("ring, the one crypto provider, is not there".to_owned());
    }
    for one in ["ring", "rustls", "rustls-webpki", "hyper"] {
        if packages.iter().filter(|p| p.name == one).count() > 1 {
            problems.push(format!("{one}: more than one version"));
        }
    }
    problems
}

#[test]
fn the_lock_file_holds_no_banned_package_and_one_crypto_provider() {
    let lock = std::fs::read_to_string(repository_root().join("Cargo.lock")).expect("Cargo.lock");
    let problems = problems(&lock);
    assert!(problems.is_empty(), "Cargo.lock:\n  {}", problems.join("\n  "));
}

#[test]
fn what_is_banned_is_found() {
    let registry = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
    let package = |name: &str, version: &str, source: &str| {
        format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n{source}\n")
    };
    let ring = package("ring", "0.17.14", registry);
    assert_eq!(problems(&ring), Vec::<String>::new());
    for (name, version) in [
        ("aws-lc-fips-sys", "0.13.7"),
        ("backoff", "0.4.0"),
        ("h2", "0.4.15"),
        ("hyper", "0.14.32"),
        ("rsa", "0.9.8"),
        ("rustls", "0.22.4"),
    ] {
        assert_eq!(problems(&(ring.clone() + &package(name, version, registry))).len(), 1, "{name} {version}");
    }
    assert_eq!(problems(&(ring.clone() + &package("h2", "0.4.16", registry))), Vec::<String>::new());
    for source in ["source = \"git+https://example.com/x#1\"\n", "source = \"sparse+https://example.com/\"\n", ""] {
        assert_eq!(problems(&(ring.clone() + &package("x", "1.0.0", source))).len(), 1, "{source}");
    }
    assert_eq!(problems(&package("x", "1.0.0", registry)).len(), 1, "no ring");
}
