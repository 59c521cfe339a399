//! `shoal get`: downloads a torrent, what a Metalink describes, or a file from a URL.

mod headers;
mod plain;

mod magnet;

use std::path::Path;
use std::sync::Arc;

use shoal_engine::{AddTorrent, Engine};
use shoal_metainfo::metainfo::Limits;
use shoal_metainfo::{Magnet, Metainfo};
use shoal_node::values::show_time;
use shoal_transport::OriginClass;
use url::Url;

use super::hand_over::{self, HandOver};
use super::transfer::{self, Goal, Prepare, Purpose};
use super::{Done, show};
use crate::args::GetArgs;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::{journal_path, torrent_file};
use plain::Local;

/// Downloads, and seeds afterwards if that was asked for.
pub(super) fn run(args: &GetArgs, output: &mut Output) -> Done {
    // What can be refused is refused before anything is opened.
    journal_path::canonical(&args.output)?;
    let source = source(args)?;
    if let Some(done) = handed_over(args, &source, output) {
        return done;
    }
    let goal = match (args.seed_ratio, args.seed_time) {
        (Some(ratio), _) => Goal::Ratio(ratio),
        (None, Some(time)) => Goal::Time(time),
        (None, None) => Goal::Complete,
    };
    let getting = Getting { args, source };
    transfer::run(
        &args.network,
        &args.state,
        getting,
        Purpose::Get,
        goal,
        output,
    )
}

/// What a node does of it, if one runs: it has torrents only.
fn handed_over(args: &GetArgs, source: &Source, output: &mut Output) -> Option<Done> {
    let is_torrent = match source {
        Source::Read(_) | Source::Magnet(_) => true,
        Source::Url(url) => is_torrent_file(url),
        Source::Metalink(..) => false,
    };
    if args.alone || !is_torrent {
        return None;
    }
    let torrent = || for_node(args, source);
    hand_over::run(&args.network, &args.state, torrent, output)
}

fn is_torrent_file(url: &Url) -> bool {
    url.path().ends_with(".torrent")
}

/// As a node is given it.
fn for_node(args: &GetArgs, source: &Source) -> Result<HandOver, Failure> {
    let mut add = hand_over::add(&args.output, &args.network)?;
    add.sequential = args.sequential;
    add.preallocate = args.preallocate.then_some(true);
    if let Some(ratio) = args.seed_ratio {
        add.rules.insert("ratio".to_owned(), format!("{ratio:.3}"));
    }
    if let Some(time) = args.seed_time {
        add.rules.insert("time".to_owned(), show_time(time));
    }
    let unknown = |what: &str| {
        let message =
            format!("the files of {what} are not known yet; leave out --select, or add --alone");
        Failure::new(Exit::Usage, message)
    };
    let (file, info_hash) = match source {
        Source::Read(read) => {
            let file = torrent_file::bytes(Path::new(&args.source))?;
            add.torrent_bytes = Some(file.len());
            let selection = args.select.as_ref();
            let selection = selection.map(|select| select.resolve(&read.metainfo));
            add.selection = selection.transpose()?;
            (file, Some(read.metainfo.info_hashes().primary()))
        }
        Source::Magnet(_) if args.select.is_some() => return Err(unknown("a magnet link")),
        Source::Magnet(magnet) => {
            add.magnet = args.source.to_str().map(str::to_owned);
            (Vec::new(), Some(magnet.info_hashes.primary()))
        }
        Source::Url(_) | Source::Metalink(..) if args.select.is_some() => {
            return Err(unknown("a torrent behind a URL"));
        }
        Source::Url(url) => {
            add.url = Some(url.to_string());
            (Vec::new(), None)
        }
        // Is never handed over.
        Source::Metalink(..) => (Vec::new(), None),
    };
    Ok(HandOver {
        add,
        file,
        info_hash,
    })
}

/// What is known of the torrent before the network is there.
enum Source {
    Read(Box<AddTorrent>),
    /// A Metalink, and where it is from.
    Metalink(Vec<u8>, String),
    Url(Url),
    Magnet(Box<Magnet>),
}

fn source(args: &GetArgs) -> Result<Source, Failure> {
    let text = args.source.to_str().unwrap_or_default();
    if show::is_magnet(text) {
        let magnet = magnet::parse(text, args)?;
        return Ok(Source::Magnet(Box::new(magnet)));
    }
    let scheme = text
        .split_once("://")
        .map(|(scheme, _)| scheme.to_ascii_lowercase());
    if matches!(scheme.as_deref(), Some("http" | "https")) {
        let url = Url::parse(text).map_err(|error| {
            Failure::new(
                Exit::Usage,
                format!("{text} is no URL: {error}; write one like https://example.org/file"),
            )
        })?;
        return Ok(Source::Url(url));
    }
    if let Some(scheme) = scheme {
        let message = format!(
            "{scheme} URLs cannot be downloaded: only http and https can; name such a URL, a file, or a magnet link"
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    let path = Path::new(&args.source);
    match plain::read(path)? {
        Local::Torrent(metainfo) => {
            let add = plan(args, Arc::new(*metainfo))?;
            Ok(Source::Read(Box::new(add)))
        }
        Local::Metalink(bytes) => {
            let origin = path.display().to_string();
            // What is wrong with it is said before the network is used.
            plain::read_metalink(&bytes, &origin)?;
            Ok(Source::Metalink(bytes, origin))
        }
    }
}

/// How the torrent is to be downloaded.
fn plan(args: &GetArgs, metainfo: Arc<Metainfo>) -> Result<AddTorrent, Failure> {
    transfer::log_warnings(&metainfo);
    let info_hash = metainfo.info_hashes().primary();
    let state_dir = args.state.state_dir.as_deref();
    let journal = journal_path::of(info_hash, &args.output, state_dir)?;
    let mut add = with_settings(args, metainfo)?;
    add.journal = Some(journal);
    Ok(add)
}

/// What the command line says of any download.
fn with_settings(args: &GetArgs, metainfo: Arc<Metainfo>) -> Result<AddTorrent, Failure> {
    let selection = args.select.as_ref().map(|select| select.resolve(&metainfo));
    let mut add = AddTorrent::new(metainfo, args.output.clone());
    if let Some(wanted) = selection.transpose()? {
        add = add.select(&wanted);
    }
    add.sequential = args.sequential;
    add.preallocate = args.preallocate;
    Ok(transfer::with_network(add, &args.network))
}

struct Getting<'a> {
    args: &'a GetArgs,
    source: Source,
}

impl Prepare for Getting<'_> {
    async fn prepare(self, engine: &Engine, output: &mut Output) -> Result<AddTorrent, Failure> {
        match self.source {
            Source::Read(add) => Ok(*add),
            Source::Magnet(magnet) => magnet::find(self.args, *magnet, engine, output).await,
            Source::Metalink(bytes, origin) => {
                Box::pin(plain::in_metalink(self.args, engine, &bytes, &origin)).await
            }
            Source::Url(url) if is_torrent_file(&url) => {
                let metainfo = fetch(engine, url, OriginClass::User).await?;
                plan(self.args, Arc::new(metainfo))
            }
            Source::Url(url) => Box::pin(plain::at_url(self.args, engine, url)).await,
        }
    }
}

/// Fetches a .torrent file.
async fn fetch(engine: &Engine, url: Url, origin: OriginClass) -> Result<Metainfo, Failure> {
    let site = url.origin().ascii_serialization();
    let file = shoal_node::fetch::torrent(engine.transport(), url, origin).await;
    let file = file.map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
    torrent_file::parse(&file, Limits::REMOTE, &site)
}
