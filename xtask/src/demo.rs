//! `make run`: a newcomer sees the main job work, without the Internet. One process seeds a torrent, a second downloads it.
//!
//! Invariant: both processes are ended and the folder is removed, whatever happens.

use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Large enough for the progress bar to be seen.
const CONTENT_BYTES: usize = 256 * 1024 * 1024;

/// Runs the demonstration with the binary at `shoal`.
pub(crate) fn run(shoal: &Path) -> Result<()> {
    let folder = Folder::new()?;
    let (source, target) = (folder.path.join("source"), folder.path.join("target"));
    let torrent = folder.path.join("demo.torrent");
    fs::create_dir_all(&source)?;
    fs::create_dir_all(&target)?;
    let content = source.join("demo.bin");
    write_noise(&content)?;

    println!(
        "\n1. Make a torrent of a file of {} MiB:",
        CONTENT_BYTES >> 20
    );
    step(
        Command::new(shoal)
            .arg("create")
            .arg(&content)
            .arg("-o")
            .arg(&torrent),
    )?;
    println!("\n2. Look inside:");
    step(Command::new(shoal).arg("show").arg(&torrent))?;
    println!("\n3. Seed it from one process, and download it with another:");
    let (seed, address) = Seed::start(shoal, &torrent, &source, &folder.path.join("state"))?;
    step(
        Command::new(shoal)
            .arg("get")
            .arg(&torrent)
            .arg("-o")
            .arg(&target)
            .args(["--listen", "127.0.0.1:0", "--peer", &address, "--state-dir"])
            .arg(folder.path.join("state")),
    )?;
    drop(seed);
    println!("\n4. Check what arrived, piece by piece:");
    step(
        Command::new(shoal)
            .arg("check")
            .arg(&torrent)
            .arg("--data")
            .arg(&target),
    )?;
    println!(
        "\nThat was Shoal. Try `shoal --help` with {}",
        shoal.display()
    );
    Ok(())
}

fn step(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let arguments: Vec<_> = command
        .get_args()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    println!("$ shoal {}", arguments.join(" "));
    let status = command
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    if !status.success() {
        bail!("shoal {} failed: {status}", arguments.join(" "));
    }
    Ok(())
}

/// A folder of its own that goes when it is dropped.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("shoal-demo-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Folder { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.path));
    }
}

/// A process that seeds until it is dropped.
struct Seed {
    child: Child,
    /// Held open, because the seed goes on to speak.
    _output: BufReader<ChildStdout>,
}

impl Seed {
    /// Starts one and waits until it listens; gives its address.
    fn start(shoal: &Path, torrent: &Path, data: &Path, state: &Path) -> Result<(Seed, String)> {
        let mut child = Command::new(shoal)
            .args(["--json", "seed"])
            .arg(torrent)
            .arg("--data")
            .arg(data)
            .args(["--listen", "127.0.0.1:0", "--trust", "--state-dir"])
            .arg(state)
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the seed")?;
        let mut output = BufReader::new(child.stdout.take().context("the seed has no output")?);
        let mut line = String::new();
        while output.read_line(&mut line)? > 0 {
            let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if said["event"] == "listening" {
                let address = said["addresses"][0]
                    .as_str()
                    .context("no address")?
                    .to_owned();
                return Ok((
                    Seed {
                        child,
                        _output: output,
                    },
                    address,
                ));
            }
            line.clear();
        }
        bail!("the seed ended before it listened: {}", child.wait()?)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Bytes that do not repeat, from a generator that needs no crate (xorshift, Marsaglia 2003).
fn write_noise(path: &Path) -> Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..CONTENT_BYTES / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.write_all(&state.to_le_bytes())?;
    }
    out.flush()?;
    Ok(())
}
