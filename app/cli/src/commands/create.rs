//! `shoal create`: makes a torrent of a file or folder.
//!
//! Invariant: the torrent file appears whole or not at all, and never in place of another unless that was asked for.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shoal_metainfo::create::{CreateError, Options, PieceHash, Plan};
use shoal_metainfo::metainfo::Limits;
use shoal_metainfo::{Magnet, Metainfo};
use shoal_node::Client;
use shoal_node::message::{Add, Request};
use shoal_storage::author::{self, Scan};
use tempfile::NamedTempFile;

use super::transfer::runtime;
use super::{Done, describe, node};
use crate::args::CreateArgs;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::output::event::{Created, Event, Hashing, Warning};
use crate::signals::Interrupt;
use crate::torrent_file;

/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Plans, hashes and writes.
pub(super) fn run(args: &CreateArgs, output: &mut Output) -> Done {
    let interrupt = Interrupt::watch();
    let scan = scan(args)?;
    let target = match &args.output {
        Some(path) => path.clone(),
        None => PathBuf::from(format!("{}.torrent", scan.name)),
    };
    refuse_overwriting(&target, args.force)?;
    // An hour of hashing for a place that cannot be written to would be an hour too much.
    drop(beside(&target)?);
    let adding = args.add.then(|| Adding::prepare(args)).transpose()?;
    for path in &scan.skipped {
        let message = format!("left out, as it is not a regular file: {}", path.display());
        output.show(&Event::Warning(Warning { message }))?;
    }
    let plan = Plan::new(scan.name, scan.files, options(args))
        .map_err(|error| plan_failure(args, &error))?;
    for renamed in plan.renamed() {
        let message = format!(
            "{:?} will be called {:?} by those who download it",
            renamed.published, renamed.becomes
        );
        output.show(&Event::Warning(Warning { message }))?;
    }
    let hashes = hash(&plan, &args.path, &interrupt, output)?;
    let bytes = plan
        .finish(&hashes)
        .map_err(|error| plan_failure(args, &error))?;
    // What we make, we read: a torrent that readers refuse must not leave the house.
    let metainfo = torrent_file::parse(&bytes, Limits::LOCAL, "the new torrent")?;
    if interrupt.came() {
        return Err(interrupted());
    }
    write(&bytes, &target, args.force)?;
    output.show(&Event::Created(created(&metainfo, &target)))?;
    match adding {
        Some(adding) => adding.finish(args, &bytes, output),
        None => Ok(Exit::Ok),
    }
}

/// A torrent on its way into the running node.
struct Adding {
    /// Where its content is.
    directory: String,
}

impl Adding {
    /// Before anything is hashed: whether a node runs, and can be told where the content is.
    fn prepare(args: &CreateArgs) -> Result<Self, Failure> {
        let real = args.path.canonicalize();
        let real =
            real.map_err(|error| Failure::at(Exit::Failure, "cannot publish", &args.path, error))?;
        // What a link is called may be another name than that of what it points to.
        let named = args.path.file_name().or_else(|| real.file_name());
        if named != real.file_name() {
            let then = "it is a link to something of another name, which the node would look for; name that, or leave out --add";
            return Err(Failure::at(Exit::Usage, "cannot add", &args.path, then));
        }
        let parent = real.parent().unwrap_or(&real);
        let directory = node::folder(parent)?;
        let socket = node::socket(&args.state)?;
        runtime()?.block_on(Client::connect(&socket))?;
        Ok(Adding { directory })
    }

    fn finish(self, args: &CreateArgs, bytes: &[u8], output: &mut Output) -> Done {
        let add = Add {
            torrent_bytes: Some(bytes.len()),
            directory: Some(self.directory),
            // All of it was read a moment ago.
            trust: true,
            ..Add::default()
        };
        node::ask(&args.state, &Request::Add(Box::new(add)), bytes, output)
    }
}

fn scan(args: &CreateArgs) -> Result<Scan, Failure> {
    let path = &args.path;
    path.metadata().map_err(|error| {
        let then = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file or folder".to_owned(),
            _ => error.to_string(),
        };
        Failure::at(Exit::Failure, "cannot publish", path, then)
    })?;
    Ok(author::scan(path, args.skip_hidden)?)
}

fn options(args: &CreateArgs) -> Options {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let now = since.map(|since| since.as_secs());
    Options {
        kind: args.kind(),
        piece_length: args.piece_size,
        trackers: args.trackers.iter().map(|tier| tier.0.clone()).collect(),
        web_seeds: args.web_seeds.clone(),
        private: args.private,
        comment: args.comment.clone(),
        created_by: Some(concat!("Shoal ", env!("CARGO_PKG_VERSION")).to_owned()),
        creation_date: now.filter(|_| !args.no_date),
        source: args.source.clone(),
        ..Options::default()
    }
}

fn plan_failure(args: &CreateArgs, error: &CreateError) -> Failure {
    let exit = match error {
        CreateError::PieceLength(_) => Exit::Usage,
        _ => Exit::Failure,
    };
    Failure::at(exit, "cannot publish", &args.path, error)
}

/// Hashes on all cores, and shows how far it is.
fn hash(
    plan: &Plan,
    base: &Path,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<Vec<PieceHash>, Failure> {
    let (hashed, cancelled) = (AtomicU64::new(0), interrupt.flag());
    let started = Instant::now();
    let total_bytes = plan.layout().total_length();
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(1);
        let (hashed, stop) = (&hashed, &*cancelled);
        scope.spawn(move || {
            let progress = |bytes| {
                hashed.fetch_add(bytes, Ordering::Relaxed);
            };
            drop(sender.send(author::hash(plan, base, 0, progress, stop)));
        });
        loop {
            match receiver.recv_timeout(TICK) {
                Ok(Ok(hashes)) => return Ok(hashes),
                Ok(Err(shoal_storage::StorageError::Cancelled)) => return Err(interrupted()),
                Ok(Err(error)) => return Err(error.into()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let message = "hashing ended without a result; report it as a bug";
                    return Err(Failure::new(Exit::Failure, message));
                }
            }
            let done_bytes = hashed.load(Ordering::Relaxed);
            let event = hashing(done_bytes, total_bytes, started.elapsed());
            output.show(&Event::Hashing(event)).inspect_err(|_| {
                stop.store(true, Ordering::Relaxed);
            })?;
        }
    })
}

fn hashing(done_bytes: u64, total_bytes: u64, elapsed: Duration) -> Hashing {
    let elapsed_ms = u64::try_from(elapsed.as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    let rate_bytes_per_s = done_bytes.saturating_mul(1_000) / elapsed_ms;
    Hashing {
        done_bytes,
        total_bytes,
        rate_bytes_per_s,
        time_left_s: total_bytes
            .saturating_sub(done_bytes)
            .checked_div(rate_bytes_per_s),
    }
}

fn interrupted() -> Failure {
    Failure::new(Exit::Interrupted, "interrupted: no torrent was written")
}

fn exists(target: &Path) -> Failure {
    let then = "it is there already; use --force to overwrite it, or name another";
    Failure::at(Exit::Unusable, "cannot write the torrent", target, then)
}

pub(super) fn refuse_overwriting(target: &Path, force: bool) -> Result<(), Failure> {
    match target.symlink_metadata() {
        Ok(there) if there.is_dir() => {
            let then = "it is a folder; name a file in it";
            Err(Failure::at(
                Exit::Unusable,
                "cannot write the torrent",
                target,
                then,
            ))
        }
        Ok(_) if !force => Err(exists(target)),
        _ => Ok(()),
    }
}

/// Writes beside the target and renames, so that nobody sees half of it.
pub(super) fn write(bytes: &[u8], target: &Path, force: bool) -> Result<(), Failure> {
    let failed = |error: io::Error| write_failure(target, &error);
    let mut file = beside(target)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    let persisted = match force {
        true => file.persist(target),
        false => file.persist_noclobber(target),
    };
    persisted.map(drop).map_err(|error| failed(error.error))
}

/// A new file in the folder of the target, which goes when it is dropped.
fn beside(target: &Path) -> Result<NamedTempFile, Failure> {
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    tempfile::Builder::new()
        .prefix(".shoal-")
        .suffix(".tmp")
        // As any new file; the system takes away what the user's mask says.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(|error| write_failure(target, &error))
}

fn write_failure(target: &Path, error: &io::Error) -> Failure {
    let then = match error.kind() {
        io::ErrorKind::AlreadyExists => return exists(target),
        io::ErrorKind::NotFound => "there is no such folder; create it".to_owned(),
        // The error itself may name a file of ours that nobody knows.
        kind => format!("{kind}; choose another place"),
    };
    Failure::at(Exit::Unusable, "cannot write the torrent", target, then)
}

fn created(metainfo: &Metainfo, target: &Path) -> Created {
    let (info_hash_v1, info_hash_v2) = describe::info_hashes(&metainfo.info_hashes());
    let content = metainfo.files().iter().filter(|file| !file.padding);
    Created {
        path: target.display().to_string(),
        name: metainfo.name().to_owned(),
        kind: describe::kind(&metainfo.info_hashes()),
        info_hash_v1,
        info_hash_v2,
        size_bytes: describe::size_bytes(metainfo.files()),
        piece_length_bytes: metainfo.layout().piece_length(),
        piece_count: metainfo.layout().piece_count(),
        file_count: content.count(),
        magnet: Magnet::from(metainfo).to_string(),
    }
}
