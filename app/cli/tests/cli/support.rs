//! A folder with content, the binary with nothing of this machine's settings, and processes that end with their test.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// What a finished command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// The JSON lines on standard output. Every line must be one.
    pub(crate) fn events(&self) -> Vec<Value> {
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        };
        self.stdout.lines().map(parse).collect()
    }

    /// The only event of that name.
    pub(crate) fn event(&self, name: &str) -> Value {
        let mut events = self.events();
        events.retain(|event| event["event"] == name);
        assert_eq!(events.len(), 1, "{name}: {self:?}");
        events.remove(0)
    }

    pub(crate) fn expect(self, code: i32) -> Said {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

/// A world of its own for one test.
pub(crate) struct World {
    folder: TempDir,
}

impl World {
    pub(crate) fn new() -> World {
        World {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a folder.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Makes a file of bytes that do not repeat, the same each time.
    pub(crate) fn file(&self, name: &str, length: usize) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = vec![0; length];
        fastrand::Rng::with_seed(length as u64).fill(&mut bytes);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Three files, one of them empty, one of them in a folder below; more than one piece each where not empty.
    pub(crate) fn album(&self) -> PathBuf {
        self.file("source/album/a.bin", 300_000);
        self.file("source/album/empty", 0);
        self.file("source/album/sub/b.bin", 200_001);
        self.path("source/album")
    }

    /// Makes a torrent of `content` and gives its path.
    pub(crate) fn torrent(&self, content: &Path, kind: &str) -> String {
        let torrent = text(&self.path(&format!("{}.torrent", &kind[2..])));
        let options = ["--piece-size", "32K", "-o", &torrent];
        self.run(&[&["create", &text(content), kind][..], &options].concat())
            .expect(0);
        torrent
    }

    /// The binary in this world: no terminal, no settings, the state folder in here.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_shoal"), arguments)
    }

    /// Another program, likewise.
    pub(crate) fn program(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("XDG_STATE_HOME", self.path("state"))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        finish(&mut self.command(arguments))
    }

    /// Starts `seed` and waits until it listens.
    pub(crate) fn seed(&self, torrent: &str, data: &Path, more: &[&str]) -> Running {
        let data = text(data);
        let state = text(&self.path("seed-state"));
        let usual = ["--json", "seed", torrent, "--data", &data];
        let listen = ["--listen", "127.0.0.1:0", "--state-dir", &state];
        Running::start(&mut self.command(&[&usual[..], &listen, more].concat()))
    }
}

pub(crate) fn finish(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    Said {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A process that speaks JSON and is killed when its test ends.
pub(crate) struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    pub(crate) address: String,
}

impl Running {
    /// Starts it; its first line must say where it listens.
    pub(crate) fn start(command: &mut Command) -> Running {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut running = Running {
            child,
            output,
            address: String::new(),
        };
        let first = running.next().expect("it ended before it listened");
        assert_eq!(first["event"], "listening", "{first}");
        running.address = first["addresses"][0].as_str().unwrap().to_owned();
        running
    }

    /// The next event; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    /// Reads until an event fits.
    pub(crate) fn wait_for(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        while let Some(event) = self.next() {
            if fits(&event) {
                return event;
            }
        }
        panic!("it ended too early: {:?}", self.child.wait());
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// As after a crash: no handler runs.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The rest of what it says, until its end.
    pub(crate) fn end(mut self) -> Said {
        let mut stdout = String::new();
        self.output.read_to_string(&mut stdout).unwrap();
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        let code = self.child.wait().unwrap().code();
        Said {
            code,
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Fails unless both trees have the same files with the same bytes.
pub(crate) fn assert_same(one: &Path, other: &Path) {
    assert_eq!(
        list(one),
        list(other),
        "{} and {}",
        one.display(),
        other.display()
    );
}

/// Every file below a path, or the path itself, with its bytes.
fn list(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![path.to_owned()];
    while let Some(next) = waiting.pop() {
        if next.is_dir() {
            waiting.extend(
                fs::read_dir(&next)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else {
            let name = next.strip_prefix(path).unwrap().to_owned();
            found.push((name, fs::read(&next).unwrap()));
        }
    }
    found.sort();
    found
}
