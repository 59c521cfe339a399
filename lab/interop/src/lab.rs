//! The room in which a test runs: namespaces without a way out, a folder, addresses.
//!
//! A test starts itself a second time under `unshare`, and its body runs there. So the harness itself, and peers that it
//! plays, are on the same network as the programs; the first process of a process namespace takes all others with it when it
//! ends; and mounts are seen by nobody else.
//!
//! Invariant: nothing that runs here can send a byte outside, and nothing outlives the test.

use crate::process::output_of;
use crate::program::Program;
use anyhow::{Context, Result, bail, ensure};
use std::any::type_name;
use std::cell::Cell;
use std::env;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use tempfile::TempDir;

/// Names, to the second run of a test, the file that says that its body began.
const INSIDE: &str = "SHOAL_LAB_INSIDE";
/// The network that all are on. Transmission never connects to a loopback address, hence none of those.
const NETWORK: [u8; 3] = [10, 99, 0];
/// Addresses of the network that can be used.
const ADDRESSES: u8 = 100;
/// How much of a log is shown where a test fails.
const SHOWN_LINES: usize = 15;

/// The room of one test.
pub struct Lab {
    folder: TempDir,
    folders: Cell<u32>,
    addresses: Cell<u8>,
}

impl Lab {
    /// A new folder, whose name begins with this one.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let number = self.folders.get();
        self.folders.set(number + 1);
        let path = self.path(&format!("{name}-{number}"));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// A path in the folder of the test.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An address and port that nobody else has.
    pub fn address(&self) -> SocketAddr {
        let number = self.addresses.get();
        self.addresses.set(number + 1);
        assert!(number < ADDRESSES, "the room has {ADDRESSES} addresses");
        let [a, b, c] = NETWORK;
        let ip = IpAddr::V4(Ipv4Addr::new(a, b, c, number));
        // Programs that cannot be bound to an address are told apart by their ports.
        SocketAddr::new(ip, 7000 + u16::from(number))
    }

    /// The network that all addresses are of, in CIDR notation.
    #[must_use]
    pub fn network(&self) -> String {
        let [a, b, c] = NETWORK;
        format!("{a}.{b}.{c}.0/24")
    }

    /// Lets programs speak to all others at once.
    ///
    /// # Errors
    ///
    /// The system does not let us.
    pub fn allow_multicast(&self) -> Result<()> {
        output_of(Command::new("ip").args(["link", "set", "lo", "multicast", "on"]))?;
        Ok(())
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.folder
            .path()
            .join("logs")
            .join(name)
            .with_extension("log")
    }

    /// Another room in the same namespaces, with a folder of its own. It gives the addresses that this one has left, as every
    /// other one does: rooms are used one after another.
    ///
    /// # Errors
    ///
    /// Its folder cannot be made.
    pub fn another(&self) -> Result<Lab> {
        let lab = Lab::new()?;
        lab.addresses.set(self.addresses.get());
        Ok(lab)
    }

    /// Shows the ends of all logs.
    pub fn show_logs(&self) {
        show_logs(&self.path("logs"));
    }

    fn new() -> Result<Lab> {
        let folder = tempfile::Builder::new().prefix("shoal-lab-").tempdir()?;
        fs::create_dir(folder.path().join("logs"))?;
        // A tracker gives up its rights and has to get at its folder all the same.
        make_public(folder.path())?;
        Ok(Lab {
            folder,
            folders: Cell::new(0),
            addresses: Cell::new(1),
        })
    }

    /// Shows the ends of all logs, and keeps them and nothing else.
    #[allow(clippy::print_stderr, reason = "a failed test speaks to people")]
    fn explain(self) {
        let folder = self.folder.keep();
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.ends_with("logs") {
                show_logs(&path);
            } else if path.is_dir() {
                drop(fs::remove_dir_all(path));
            } else {
                drop(fs::remove_file(path));
            }
        }
        eprintln!("the logs are in {}", folder.join("logs").display());
    }
}

#[allow(clippy::print_stderr, reason = "a failed test speaks to people")]
fn show_logs(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let bytes = fs::read(entry.path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        eprintln!("--- {}\n{}", entry.file_name().display(), shown.join("\n"));
    }
}

/// Lets programs of other users look into a folder.
pub(crate) fn make_public(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// What became of a body that was to run in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran, and went well.
    Ran,
    /// It could not run: why.
    Skipped(String),
}

/// Runs the body of a test in a room of its own. Where a program that it needs is missing, or namespaces cannot be made, it
/// says so and skips; with `CI=true` it fails.
///
/// # Errors
///
/// The test failed; the logs of all programs were shown.
#[allow(clippy::print_stderr, reason = "a skipped test speaks to people")]
pub fn isolated<F: FnOnce(&Lab) -> Result<()>>(needs: &[Program], body: F) -> Result<()> {
    let name = test_name::<F>()?;
    let outcome = run_isolated(needs, &["--exact", &name, "--nocapture"], body)?;
    if let Outcome::Skipped(why) = outcome {
        ensure!(
            env::var("CI").map_or(true, |value| value != "true"),
            "{why} (with CI=true that is an error)"
        );
        eprintln!("skipped: {why}");
    }
    Ok(())
}

/// Runs a body in a room of its own. The process starts itself a second time there, with these arguments, which have to
/// lead to the same call.
///
/// # Errors
///
/// The body failed; the logs of all programs were shown.
pub fn run_isolated(
    needs: &[Program],
    arguments: &[&str],
    body: impl FnOnce(&Lab) -> Result<()>,
) -> Result<Outcome> {
    for program in needs {
        if let Err(missing) = program.find() {
            return Ok(Outcome::Skipped(format!("{missing:#}")));
        }
    }
    run_isolated_by(Command::status, arguments, body)
}

/// As [`run_isolated`], for a caller that starts the command of the second run itself, and waits for it.
///
/// # Errors
///
/// The body failed; the logs of all programs were shown.
pub fn run_isolated_by(
    start: impl FnOnce(&mut Command) -> io::Result<ExitStatus>,
    arguments: &[&str],
    body: impl FnOnce(&Lab) -> Result<()>,
) -> Result<Outcome> {
    if let Some(mark) = env::var_os(INSIDE) {
        run_inside(Path::new(&mark), body)?;
        return Ok(Outcome::Ran);
    }
    run_outside(start, arguments)
}

/// The name under which a test's harness knows the function that this closure is in.
fn test_name<F>() -> Result<String> {
    let path = type_name::<F>();
    let path = path.strip_suffix("::{{closure}}").unwrap_or(path);
    let (_, name) = path
        .split_once("::")
        .with_context(|| format!("{path} is no function of a test"))?;
    Ok(name.to_owned())
}

fn run_outside(
    start: impl FnOnce(&mut Command) -> io::Result<ExitStatus>,
    arguments: &[&str],
) -> Result<Outcome> {
    let scratch = TempDir::new()?;
    let mark = scratch.path().join("began");
    let mut command = namespaces();
    command.arg(env::current_exe()?).args(arguments);
    let status = start(command.env(INSIDE, &mark));
    let began = mark.exists();
    match status {
        Ok(status) if began => {
            ensure!(status.success(), "failed in its namespaces: {status}");
            Ok(Outcome::Ran)
        }
        Ok(_) if can_make_namespaces() => bail!("the test was not found in its namespaces"),
        Ok(_) | Err(_) => Ok(Outcome::Skipped(
            "no right to make namespaces, and nothing may reach outside".to_owned(),
        )),
    }
}

/// `unshare`, ready for the program that is to run. Where we are not root, a user namespace gives the rights to arrange the
/// network, under the same user.
fn namespaces() -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-current-user", "--keep-caps"]);
    }
    command.args(["--net", "--mount", "--pid", "--fork"]);
    command.args(["--kill-child", "--mount-proc"]);
    command
}

fn can_make_namespaces() -> bool {
    namespaces()
        .arg("true")
        .status()
        .is_ok_and(|status| status.success())
}

fn run_inside(mark: &Path, body: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    fs::write(mark, "")?;
    arrange_network()?;
    let lab = Lab::new()?;
    let result = body(&lab);
    if result.is_err() {
        lab.explain();
    }
    result
}

/// Gives the loopback interface the addresses of the network. There is no other interface, so there is no way out; the route
/// lets programs find out which address is theirs.
fn arrange_network() -> Result<()> {
    let [a, b, c] = NETWORK;
    let mut commands = String::from("link set lo up\n");
    for number in 1..ADDRESSES {
        commands += &format!("address add {a}.{b}.{c}.{number}/24 dev lo\n");
    }
    commands += "route add default dev lo\n";
    let scratch = TempDir::new()?;
    let file = scratch.path().join("commands");
    fs::write(&file, commands)?;
    output_of(Command::new("ip").arg("-batch").arg(&file))?;
    Ok(())
}
