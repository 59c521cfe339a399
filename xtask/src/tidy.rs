//! The house rules that the compiler does not know: which crate may import which, what is pure, how a file opens.
//!
//! Invariant: every rule here stands in ARCHITECTURE.md, and every finding names the file and the rule it breaks.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The floors of the house, lowest first. A crate may import from its own floor and from lower ones.
const FLOORS: [&str; 4] = ["protocol", "system", "services", "app"];

/// Crates of other people that a pure crate may use: arithmetic, hashing, parsing and data structures, nothing that can reach a
/// clock, a socket, a file or a thread.
const PURE: [&str; 13] = [
    "bytes",
    "crypto-bigint",
    "ed25519-dalek",
    "fastrand",
    "quick-xml",
    "sha1",
    "sha2",
    "slab",
    "smallvec",
    "thiserror",
    "url",
    "proptest",
    "crc32fast",
];

/// Dependencies that open sockets, and the only crates that may have them.
const SOCKETS: [&str; 5] = ["socket2", "quinn-udp", "reqwest", "rustls", "hyper"];
const MAY_OPEN_SOCKETS: [&str; 1] = ["shoal-transport"];

/// Text that stands for a socket or a file in source, where it may stand, and the rule it would break elsewhere.
const FORBIDDEN_TEXT: [(&[&str], &[&str], &str); 2] = [
    (
        &[
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "UnixStream",
            "UnixListener",
            "lookup_host",
        ],
        &["system/transport/", "lab/", "xtask/"],
        "only system/transport opens sockets (invariant 2)",
    ),
    (
        &["std::fs", "fs::File", "tokio::fs", "OpenOptions"],
        &[
            "system/storage/",
            "system/transport/",
            // The folders of other clients, which are no content.
            "system/import/src/disk.rs",
            "app/",
            "lab/",
            "xtask/",
        ],
        "only system/storage reads and writes content (invariant 3)",
    ),
];

/// Words that mark unfinished work.
const UNFINISHED: [&str; 3] = ["TODO", "FIXME", "XXX"];

/// Checks everything; fails with all findings.
pub(crate) fn run() -> Result<()> {
    let root = workspace_root()?;
    let mut findings = Vec::new();
    let packages = packages(&root)?;
    check_arrows(&root, &packages, &mut findings);
    for file in sources(&root)? {
        let path = file
            .strip_prefix(&root)
            .unwrap_or(&file)
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {path}"))?;
        check_source(&path, &text, &mut findings);
    }
    if findings.is_empty() {
        return Ok(());
    }
    bail!("tidy found:\n  {}", findings.join("\n  "))
}

struct Package {
    name: String,
    /// Folder relative to the workspace root, with `/`.
    folder: String,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    name: String,
    dev: bool,
}

/// The tree that this was started in. Asked when it runs, since clones that share a target folder share this binary.
fn workspace_root() -> Result<PathBuf> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
    let root = Path::new(&manifest).parent();
    Ok(root.context("xtask has no parent folder")?.to_path_buf())
}

fn packages(root: &Path) -> Result<Vec<Package>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"]
        .as_array()
        .context("no packages in cargo metadata")?;
    packages
        .iter()
        .map(|package| read_package(root, package))
        .collect()
}

fn read_package(root: &Path, package: &Value) -> Result<Package> {
    let text = |value: &Value| {
        value
            .as_str()
            .map(str::to_owned)
            .context("a text is missing")
    };
    let manifest = PathBuf::from(text(&package["manifest_path"])?);
    let folder = manifest.parent().context("a manifest has no folder")?;
    let folder = folder
        .strip_prefix(root)
        .unwrap_or(folder)
        .to_string_lossy()
        .replace('\\', "/");
    let dependencies = package["dependencies"]
        .as_array()
        .context("no dependencies in cargo metadata")?
        .iter()
        .map(|dependency| {
            Ok(Dependency {
                name: text(&dependency["name"])?,
                dev: dependency["kind"].as_str() == Some("dev"),
            })
        })
        .collect::<Result<_>>()?;
    Ok(Package {
        name: text(&package["name"])?,
        folder,
        dependencies,
    })
}

fn floor(folder: &str) -> &str {
    folder.split('/').next().unwrap_or_default()
}

fn check_arrows(root: &Path, packages: &[Package], findings: &mut Vec<String>) {
    let ours: BTreeMap<&str, &str> = packages
        .iter()
        .map(|package| (package.name.as_str(), package.folder.as_str()))
        .collect();
    for package in packages {
        let folder = package.folder.as_str();
        if let Some((_, last)) = folder.rsplit_once('/')
            && package.name != format!("shoal-{last}")
        {
            findings.push(format!(
                "{folder}: the crate is called {}, not shoal-{last}",
                package.name
            ));
        }
        if !root.join(folder).join("src").is_dir() {
            findings.push(format!("{folder}: has no src folder"));
        }
        for dependency in &package.dependencies {
            let complaint = match ours.get(dependency.name.as_str()) {
                Some(target) => inner_arrow(folder, target),
                None => outer_arrow(package, dependency),
            };
            findings.extend(complaint.map(|why| format!("{folder} -> {}: {why}", dependency.name)));
        }
    }
}

/// Why a crate in `from` must not import one of ours in `to`.
fn inner_arrow(from: &str, to: &str) -> Option<&'static str> {
    let rank = |folder| FLOORS.iter().position(|&name| name == floor(folder));
    match (rank(from), rank(to)) {
        // The laboratory may look at everything.
        (None, _) => None,
        (Some(_), None) => Some("nothing imports lab or xtask"),
        (Some(from_rank), Some(to_rank)) if from_rank < to_rank => {
            Some("imports run one way: app, services, system, protocol")
        }
        (Some(_), Some(_)) if floor(from) == "services" && floor(to) == "services" => {
            Some("services do not import each other")
        }
        _ => None,
    }
}

/// Why a crate must not depend on this one of other people.
fn outer_arrow(package: &Package, dependency: &Dependency) -> Option<&'static str> {
    let name = dependency.name.as_str();
    if floor(&package.folder) == "protocol" && !PURE.contains(&name) {
        return Some("protocol is pure: this crate is not on its list (invariant 1)");
    }
    let opens_sockets = SOCKETS.contains(&name) && !dependency.dev;
    if opens_sockets
        && floor(&package.folder) != "lab"
        && !MAY_OPEN_SOCKETS.contains(&package.name.as_str())
    {
        return Some("only system/transport opens sockets (invariant 2)");
    }
    None
}

/// Every Rust file of the workspace that people wrote.
fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = FLOORS
        .iter()
        .chain(&["lab", "xtask"])
        .map(|name| root.join(name))
        .filter(|path| path.is_dir())
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                if !matches!(
                    name.as_str(),
                    "target" | "corpus" | "artifacts" | "node_modules"
                ) {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn check_source(path: &str, text: &str, findings: &mut Vec<String>) {
    let first = text.lines().find(|line| !line.starts_with("#!"));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        findings.push(format!(
            "{path}: does not open with a sentence of purpose (//!)"
        ));
    }
    let this_file = path.ends_with("xtask/src/tidy.rs");
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(word) = UNFINISHED.iter().find(|word| line.contains(*word))
            && !this_file
        {
            findings.push(format!("{path}:{number}: {word} marks unfinished work"));
        }
        if line.trim_start().starts_with("//") {
            continue;
        }
        for (texts, allowed, rule) in FORBIDDEN_TEXT {
            // A crate's integration tests play the remote and lay out files; what they need is theirs.
            let integration_test = path.contains("/tests/") && !path.contains("/src/");
            let here = integration_test || allowed.iter().any(|prefix| path.starts_with(prefix));
            if !here && texts.iter().any(|text| line.contains(text)) {
                findings.push(format!("{path}:{number}: {rule}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_run_downwards_only() {
        assert!(inner_arrow("app/cli", "protocol/wire").is_none());
        assert!(inner_arrow("protocol/swarm", "protocol/wire").is_none());
        assert!(inner_arrow("protocol/swarm", "system/storage").is_some());
        assert!(inner_arrow("system/engine", "lab/sim").is_some());
        assert!(inner_arrow("services/send", "services/live").is_some());
        assert!(inner_arrow("lab/sim", "app/cli").is_none());
    }

    #[test]
    fn a_pure_crate_with_a_runtime_is_found() {
        let package = |folder: &str, name: &str| Package {
            name: name.into(),
            folder: folder.into(),
            dependencies: Vec::new(),
        };
        let on = |name: &str| Dependency {
            name: name.into(),
            dev: false,
        };
        assert!(outer_arrow(&package("protocol/wire", "shoal-wire"), &on("tokio")).is_some());
        assert!(outer_arrow(&package("protocol/wire", "shoal-wire"), &on("bytes")).is_none());
        assert!(outer_arrow(&package("system/engine", "shoal-engine"), &on("socket2")).is_some());
        assert!(
            outer_arrow(
                &package("system/transport", "shoal-transport"),
                &on("socket2")
            )
            .is_none()
        );
    }

    #[test]
    fn a_file_without_purpose_and_one_with_a_socket_are_found() {
        let findings = |path: &str, text: &str| {
            let mut found = Vec::new();
            check_source(path, text, &mut found);
            found.len()
        };
        assert_eq!(
            findings("system/engine/src/a.rs", "//! Purpose.\nfn a() {}\n"),
            0
        );
        assert_eq!(findings("system/engine/src/a.rs", "fn a() {}\n"), 1);
        assert_eq!(
            findings(
                "system/engine/src/a.rs",
                "//! P.\nuse tokio::net::TcpStream;\n"
            ),
            1
        );
        assert_eq!(
            findings(
                "system/transport/src/a.rs",
                "//! P.\nuse tokio::net::TcpStream;\n"
            ),
            0
        );
        assert_eq!(
            findings("protocol/wire/src/a.rs", "//! P.\nuse std::fs::File;\n"),
            1
        );
        let socket = "//! P.\nuse std::net::TcpStream;\n";
        assert_eq!(findings("system/engine/tests/a.rs", socket), 0);
        assert_eq!(findings("system/engine/src/tests/a.rs", socket), 1);
    }
}
