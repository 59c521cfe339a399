//! `shoal get`: downloads a torrent, what a Metalink describes, or a file from a URL.

mod headers;
mod plain;

mod magnet;

use std::path::Path;
use std::sync::Arc;

use shoal_engine::{AddTorrent, Engine};
use shoal_metainfo::metainfo::Limits;
use shoal_metainfo::{Magnet, Metainfo};
use shoal_transport::{HttpError, HttpLimits, OriginClass};
use url::Url;

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
            Source::Url(url) if url.path().ends_with(".torrent") => {
                let metainfo = fetch(engine, url, OriginClass::User).await?;
                plan(self.args, Arc::new(metainfo))
            }
            Source::Url(url) => Box::pin(plain::at_url(self.args, engine, url)).await,
        }
    }
}

/// Fetches a .torrent file. Errors name the site only: the rest of a URL may be a secret.
async fn fetch(engine: &Engine, url: Url, origin: OriginClass) -> Result<Metainfo, Failure> {
    let site = url.origin().ascii_serialization();
    let limits = HttpLimits::file(Limits::REMOTE.bytes);
    let failed = |why: &str| {
        let message = format!("cannot fetch the torrent: {why}");
        Failure::new(Exit::Failure, message)
    };
    let reply = engine.transport().http().get(url, origin, limits).await;
    let reply = reply.map_err(|error| failed(&explain(&site, &error)))?;
    if reply.status != 200 {
        let status = reply.status;
        let why = format!("{site}: the server answers with status {status}; check the URL");
        return Err(failed(&why));
    }
    torrent_file::parse(&reply.body, Limits::REMOTE, &site)
}

/// What went wrong at which site, and what to do. Most errors name the site themselves: it may be one that was redirected to.
fn explain(site: &str, error: &HttpError) -> String {
    match error {
        HttpError::Failed { .. } | HttpError::TimedOut { .. } => {
            format!("{error}; check the URL, or try again later")
        }
        HttpError::BadRedirect(_) | HttpError::TooManyRedirects { .. } => {
            format!("{error}; check the URL")
        }
        HttpError::TooLarge { .. } => {
            format!("{error}; check the URL, or download the file and name that")
        }
        HttpError::Downgrade { .. } => error.to_string(),
        HttpError::UnsupportedScheme(_)
        | HttpError::Resolve(_)
        | HttpError::NoCertificateAuthorities => format!("{site}: {error}"),
    }
}
