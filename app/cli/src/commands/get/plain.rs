//! `shoal get` of what is no torrent: files at URLs and in Metalinks. Where a torrent of the same file is offered beside it, the
//! torrent is what is downloaded, and the URLs are its web seeds.
//!
//! Invariant: what a person did not name is asked for on the word of whoever named it, with no more rights than that has.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shoal_engine::{AddTorrent, Engine, Mirror, Version};
use shoal_metainfo::Metainfo;
use shoal_metainfo::metainfo::{Limits, PlainFile, WholeDigest};
use shoal_metainfo::metalink::{self, Metalink, MetalinkFile};
use shoal_transport::{HttpLimits, HttpStream, OriginClass, RangeRequest};
use url::Url;

use super::headers::{self, Link};
use super::{plan, with_settings};
use crate::args::GetArgs;
use crate::exit::{Exit, Failure};
use crate::{journal_path, torrent_file};
use shoal_node::fetch::explain;

/// So much of a file tells what it is.
const PROBE_LENGTH: usize = 1024;

/// So long an origin may take over the next part of a file's beginning.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most torrents of one file that are tried.
const MAX_TORRENTS: usize = 3;

/// The most Metalinks of one file that are read: each is a request to wherever a server says.
const MAX_METALINKS: usize = 3;

/// The most mirrors of one file.
const MAX_MIRRORS: usize = 64;

const EMPTY: &str = "the file is empty: there is nothing to download; check the URL";

const TORRENT_TYPE: &str = "application/x-bittorrent";
const METALINK_TYPE: &str = "application/metalink4+xml";

/// A file, and everything that is known of where it is.
#[derive(Debug, Default)]
struct Offer {
    name: Vec<u8>,
    length: u64,
    digest: Option<WholeDigest>,
    pieces: Option<(u32, Vec<[u8; 20]>)>,
    mirrors: Vec<(Mirror, OriginClass)>,
    torrents: Vec<Url>,
    /// Metalinks that were asked for.
    metalinks: usize,
    /// Tells this version of the file from others.
    identity: String,
}

/// Finds out what is at `url`, and how it is to be downloaded.
pub(super) async fn at_url(
    args: &GetArgs,
    engine: &Engine,
    url: Url,
) -> Result<AddTorrent, Failure> {
    let site = url.origin().ascii_serialization();
    let mut reply = ask(engine, &url).await?;
    let beginning = beginning(&mut reply).await;
    match kind(&reply, &beginning) {
        Kind::Torrent => {
            drop(reply);
            let metainfo = super::fetch(engine, url, OriginClass::User).await?;
            plan(args, Arc::new(metainfo))
        }
        Kind::Metalink => {
            drop(reply);
            let bytes = body(engine, url, OriginClass::User, metalink::MAX_BYTES).await?;
            in_metalink(args, engine, &bytes, &site).await
        }
        Kind::File => {
            let offer = Box::pin(offered(engine, &url, &reply, &site)).await?;
            drop(reply);
            Box::pin(take(args, engine, offer, &site)).await
        }
    }
}

/// Downloads what a Metalink, from `origin`, describes.
pub(super) async fn in_metalink(
    args: &GetArgs,
    engine: &Engine,
    bytes: &[u8],
    origin: &str,
) -> Result<AddTorrent, Failure> {
    let metalink = read_metalink(bytes, origin)?;
    if let [file] = &metalink.files[..] {
        let offer = of_metalink(file, origin)?;
        return Box::pin(take(args, engine, offer, origin)).await;
    }
    let plain = |file: &MetalinkFile| file.plain().ok_or_else(|| unknown_length(&file.name));
    let files: Result<Vec<PlainFile>, Failure> = metalink.files.iter().map(plain).collect();
    let files = files?;
    let mirrors = by_site(&metalink.files);
    let identity = identity_of(&metalink.files);
    plan_plain(args, &files, None, mirrors, &identity, origin)
}

pub(super) fn read_metalink(bytes: &[u8], origin: &str) -> Result<Metalink, Failure> {
    Metalink::parse(bytes).map_err(|error| {
        let message = format!("metalink refused: {origin}: {error}");
        Failure::new(Exit::Refused, message)
    })
}

/// Whether bytes look like a Metalink: XML that names its namespace before long.
fn is_metalink(bytes: &[u8]) -> bool {
    let namespace = b"urn:ietf:params:xml:ns:metalink";
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let beginning = &text[..text.len().min(PROBE_LENGTH)];
    let names = || {
        beginning
            .windows(namespace.len())
            .any(|part| part == namespace)
    };
    beginning.trim_ascii_start().starts_with(b"<") && names()
}

enum Kind {
    Torrent,
    Metalink,
    File,
}

/// By what the server says, or else by what it sends.
fn kind(reply: &HttpStream, beginning: &[u8]) -> Kind {
    let media_type = reply.header("content-type").unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    let bencode = beginning.first() == Some(&b'd')
        && beginning.get(1).is_some_and(u8::is_ascii_digit)
        && beginning.iter().take(8).any(|&byte| byte == b':');
    if media_type.eq_ignore_ascii_case(TORRENT_TYPE) || bencode {
        Kind::Torrent
    } else if media_type.eq_ignore_ascii_case(METALINK_TYPE) || is_metalink(beginning) {
        Kind::Metalink
    } else {
        Kind::File
    }
}

fn failed(why: &str) -> Failure {
    Failure::new(Exit::Failure, format!("cannot download it: {why}"))
}

/// Why there is no file in a reply, and what to do about it.
fn refused_status(site: &str, status: u16, retry_after: Option<Duration>) -> Failure {
    let advice = match (status, retry_after) {
        (401 | 403, _) => {
            "check the URL; where the file wants a name and a password, write https://NAME:PASSWORD@HOST/..."
                .to_owned()
        }
        (408 | 429 | 500..=599, Some(wait)) => {
            format!("it is busy: try again in {} s", wait.as_secs().max(1))
        }
        (408 | 429 | 500..=599, None) => "it is busy: try again later".to_owned(),
        _ => "check the URL".to_owned(),
    };
    failed(&format!(
        "{site}: the server answers with status {status}; {advice}"
    ))
}

/// Asks for the beginning of what is at `url`.
async fn ask(engine: &Engine, url: &Url) -> Result<HttpStream, Failure> {
    let site = url.origin().ascii_serialization();
    let request = RangeRequest {
        url: url.clone(),
        range: Some(0..PROBE_LENGTH as u64),
        if_range: None,
    };
    let http = engine.transport().http();
    let reply = http
        .open(request, OriginClass::User, HttpLimits::file(0))
        .await;
    let reply = reply.map_err(|error| failed(&explain(&site, &error)))?;
    match reply.status() {
        200 | 206 => Ok(reply),
        416 => Err(failed(&format!("{site}: {EMPTY}"))),
        status => Err(refused_status(&site, status, reply.retry_after())),
    }
}

/// The first bytes of a reply, as far as they come.
async fn beginning(reply: &mut HttpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < PROBE_LENGTH {
        let chunk = tokio::time::timeout(PATIENCE, reply.chunk()).await;
        match chunk {
            Ok(Ok(Some(chunk))) => bytes.extend(chunk.iter().take(PROBE_LENGTH - bytes.len())),
            _ => break,
        }
    }
    bytes
}

/// The whole of something small.
async fn body(
    engine: &Engine,
    url: Url,
    origin: OriginClass,
    max_body_bytes: usize,
) -> Result<Vec<u8>, Failure> {
    let site = url.origin().ascii_serialization();
    let http = engine.transport().http();
    let reply = http
        .get(url, origin, HttpLimits::file(max_body_bytes))
        .await;
    let reply = reply.map_err(|error| failed(&explain(&site, &error)))?;
    match reply.status {
        200 => Ok(reply.body),
        status => {
            let wait = reply.retry_after_s.map(Duration::from_secs);
            Err(refused_status(&site, status, wait))
        }
    }
}

/// What the head of a reply says of the file at `url`, and what it links to.
async fn offered(
    engine: &Engine,
    url: &Url,
    reply: &HttpStream,
    site: &str,
) -> Result<Offer, Failure> {
    let length = length(reply).map_err(|why| failed(&format!("{site}: {why}")))?;
    let version = Version {
        etag: reply.header("etag"),
        last_modified: reply.header("last-modified"),
    };
    let identity = format!(
        "{url}\n{:?}\n{:?}\n{length}",
        version.etag, version.last_modified
    );
    let user = Mirror {
        urls: vec![Some(url.clone())],
        version: Some(version),
    };
    let digests = ["repr-digest", "digest"].into_iter();
    let mut offer = Offer {
        name: name(url, reply),
        length,
        digest: headers::digest(digests.filter_map(|field| reply.header(field))),
        mirrors: vec![(user, OriginClass::User)],
        identity,
        ..Offer::default()
    };
    for link in headers::links(reply.headers("link")) {
        let Ok(target) = reply.url().join(&link.target) else {
            continue;
        };
        Box::pin(follow_link(engine, &link, target, &mut offer)).await;
    }
    Ok(offer)
}

/// Learns what a link of a server says of a file (RFC 6249). One that leads nowhere is as if it were not there.
async fn follow_link(engine: &Engine, link: &Link, target: Url, offer: &mut Offer) {
    let says = |relation: &str| link.relations.iter().any(|known| known == relation);
    let of_type = |kind: &str| link.media_type.as_deref() == Some(kind);
    if says("duplicate") {
        return offer.mirror(target);
    }
    if says("describedby") && of_type(TORRENT_TYPE) {
        return offer.torrents.push(target);
    }
    if !(says("describedby") && of_type(METALINK_TYPE)) || offer.metalinks == MAX_METALINKS {
        return;
    }
    offer.metalinks += 1;
    let site = target.origin().ascii_serialization();
    let fetched = body(engine, target, OriginClass::Metainfo, metalink::MAX_BYTES).await;
    let metalink = fetched.and_then(|bytes| read_metalink(&bytes, &site));
    match metalink {
        Ok(metalink) => {
            let same = |file: &&MetalinkFile| file.size == Some(offer.length);
            if let Some(file) = metalink.files.iter().find(same) {
                offer.digest = offer.digest.or_else(|| file.digest());
                offer.pieces = file.pieces.clone();
                offer
                    .torrents
                    .extend(file.torrents.iter().map(|url| url.url.clone()));
                let urls = file.urls.iter().map(|url| url.url.clone());
                urls.for_each(|url| offer.mirror(url));
            }
        }
        Err(error) => tracing::warn!(reason = error.message, "a metalink is left out"),
    }
}

impl Offer {
    /// One more place at which somebody else says that the file is.
    fn mirror(&mut self, url: Url) {
        let urls = vec![Some(url)];
        let known = self.mirrors.iter().any(|(mirror, _)| mirror.urls == urls);
        if !known && self.mirrors.len() < MAX_MIRRORS {
            let version = None;
            self.mirrors
                .push((Mirror { urls, version }, OriginClass::Metainfo));
        }
    }
}

/// The length of the whole, where ranges of it can be had.
fn length(reply: &HttpStream) -> Result<u64, &'static str> {
    if reply.is_encoded() {
        return Err("the server compresses the file although it may not; name another mirror");
    }
    if reply.status() == 200 {
        return Err(match reply.content_length() {
            Some(0) => EMPTY,
            _ => {
                "the server does not serve ranges, so that a download could not be resumed; \
                 name another mirror, or use a program that can begin anew, such as curl"
            }
        });
    }
    let range = reply.header("content-range");
    let range = range.as_deref().and_then(shoal_engine::content_range);
    match range {
        Some((0, _, Some(total))) => Ok(total),
        Some((0, _, None)) => {
            Err("the server does not say how long the file is; name another mirror")
        }
        _ => Err("the server sends another range than was asked for; name another mirror"),
    }
}

/// What to call the file: as the server says, or as the URL does. Made safe for a disk by whoever makes a file of it.
fn name(url: &Url, reply: &HttpStream) -> Vec<u8> {
    let said = reply.header("content-disposition");
    let last = |url: &Url| {
        let segment = url.path_segments()?.next_back()?;
        (!segment.is_empty()).then(|| headers::percent_decode(segment))
    };
    said.as_deref()
        .and_then(headers::file_name)
        .or_else(|| last(url))
        .or_else(|| last(reply.url()))
        .unwrap_or_else(|| b"download".to_vec())
}

fn unknown_length(name: &str) -> Failure {
    failed(&format!(
        "the metalink does not say how long {name:?} is; ask whoever made it for one with sizes, or name one of its URLs"
    ))
}

fn of_metalink(file: &MetalinkFile, origin: &str) -> Result<Offer, Failure> {
    let mut offer = Offer {
        name: file.name.clone().into_bytes(),
        length: file.size.ok_or_else(|| unknown_length(&file.name))?,
        digest: file.digest(),
        pieces: file.pieces.clone(),
        torrents: file.torrents.iter().map(|url| url.url.clone()).collect(),
        identity: identity_of(std::slice::from_ref(file)),
        ..Offer::default()
    };
    let urls = file.urls.iter().map(|url| url.url.clone());
    urls.for_each(|url| offer.mirror(url));
    if offer.mirrors.is_empty() && offer.torrents.is_empty() {
        let why = format!(
            "{origin}: the metalink names no http, https or torrent URL; name a URL of the file"
        );
        return Err(failed(&why));
    }
    Ok(offer)
}

/// What tells files from others: their hashes, or where nobody says them, their places.
fn identity_of(files: &[MetalinkFile]) -> String {
    let of = |file: &MetalinkFile| match file.digest() {
        Some(digest) => format!("{} {:?} {digest:?}", file.name, file.size),
        None => format!("{} {:?} {:?}", file.name, file.size, file.urls),
    };
    files.iter().map(of).collect::<Vec<_>>().join("\n")
}

/// The mirrors of several files: those of one site are one origin.
fn by_site(files: &[MetalinkFile]) -> Vec<(Mirror, OriginClass)> {
    let urls = || {
        let files = files.iter().enumerate();
        files.flat_map(|(at, file)| file.urls.iter().map(move |url| (at, url)))
    };
    // A document can name a hundred thousand sites: only those that are asked get a list of all files.
    let mut sites: BTreeMap<String, (u32, usize)> = BTreeMap::new();
    for (order, (_, url)) in urls().enumerate() {
        let site = url.url.origin().ascii_serialization();
        sites.entry(site).or_insert((url.priority, order));
    }
    let mut sites: Vec<(String, (u32, usize))> = sites.into_iter().collect();
    sites.sort_by_key(|&(_, rank)| rank);
    sites.truncate(MAX_MIRRORS);
    let sites = sites.into_iter().enumerate();
    let position: BTreeMap<String, usize> = sites.map(|(at, (site, _))| (site, at)).collect();
    let mut mirrors = vec![vec![None; files.len()]; position.len()];
    for (file, url) in urls() {
        if let Some(&at) = position.get(&url.url.origin().ascii_serialization()) {
            mirrors[at][file].get_or_insert_with(|| url.url.clone());
        }
    }
    let version = None;
    let mirror = |urls| Mirror {
        urls,
        version: version.clone(),
    };
    let mirrors = mirrors.into_iter();
    mirrors
        .map(|urls| (mirror(urls), OriginClass::Metainfo))
        .collect()
}

/// Downloads a file: as the torrent that is offered of it, if there is one, or else as it is.
async fn take(
    args: &GetArgs,
    engine: &Engine,
    offer: Offer,
    origin: &str,
) -> Result<AddTorrent, Failure> {
    for url in offer.torrents.iter().take(MAX_TORRENTS) {
        match super::fetch(engine, url.clone(), OriginClass::Metainfo).await {
            Ok(metainfo) if is_of(&metainfo, offer.length) => {
                // It may be of another file all the same.
                let mut add = plan(args, Arc::new(metainfo.promised(offer.digest)))?;
                add.mirrors = offer.mirrors;
                return Ok(add);
            }
            Ok(_) => {
                tracing::warn!("a torrent that is offered is not of this file, and is left out");
            }
            Err(error) => tracing::warn!(reason = error.message, "a torrent is left out"),
        }
    }
    let path = if offer.name.contains(&b'/') {
        offer
            .name
            .split(|&byte| byte == b'/')
            .map(<[u8]>::to_vec)
            .collect()
    } else {
        vec![offer.name]
    };
    let file = PlainFile {
        path,
        length: offer.length,
        digest: offer.digest,
    };
    plan_plain(
        args,
        &[file],
        offer.pieces,
        offer.mirrors,
        &offer.identity,
        origin,
    )
}

/// Whether a torrent is of one file of this length, so that its file is at the URLs of the other.
fn is_of(metainfo: &Metainfo, length: u64) -> bool {
    metainfo.folder().is_none() && matches!(metainfo.files(), [file] if file.length == length)
}

/// How files without a torrent are to be downloaded.
fn plan_plain(
    args: &GetArgs,
    files: &[PlainFile],
    pieces: Option<(u32, Vec<[u8; 20]>)>,
    mirrors: Vec<(Mirror, OriginClass)>,
    identity: &str,
    origin: &str,
) -> Result<AddTorrent, Failure> {
    let metainfo = Metainfo::plain(files, pieces, identity.as_bytes()).map_err(|error| {
        let message = format!("cannot download it: {origin}: {error}");
        Failure::new(Exit::Refused, message)
    })?;
    let state_dir = args.state.state_dir.as_deref();
    let info_hash = metainfo.info_hashes().primary();
    let journal = journal_path::of(info_hash, &args.output, state_dir)?;
    if !journal.exists() {
        for file in metainfo.files() {
            refuse_existing(&args.output.join(&file.path))?;
        }
    }
    let mut add = with_settings(args, Arc::new(metainfo))?;
    add.journal = Some(journal);
    add.mirrors = mirrors;
    Ok(add)
}

/// What is there and is not known to be of this download is somebody's: nothing could tell which of its bytes are right.
fn refuse_existing(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let then = "it is there already, and not from this download of this version; \
                move it away, or choose another folder";
    Err(Failure::at(
        Exit::Unusable,
        "cannot write",
        path,
        then.to_owned(),
    ))
}

/// A Metalink or torrent on the disk.
pub(super) fn read(path: &Path) -> Result<Local, Failure> {
    let bytes = torrent_file::bytes(path)?;
    let extension = path.extension().and_then(|extension| extension.to_str());
    if matches!(extension, Some("meta4" | "metalink")) || is_metalink(&bytes) {
        return Ok(Local::Metalink(bytes));
    }
    let origin = path.display().to_string();
    let metainfo = torrent_file::parse(&bytes, Limits::LOCAL, &origin)?;
    Ok(Local::Torrent(Box::new(metainfo)))
}

/// What a file describes a download with.
pub(super) enum Local {
    Torrent(Box<Metainfo>),
    Metalink(Vec<u8>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_metainfo::metalink::MetalinkUrl;

    fn file(urls: impl Iterator<Item = (String, u32)>) -> MetalinkFile {
        let url = |(text, priority): (String, u32)| MetalinkUrl {
            url: text.parse().unwrap(),
            priority,
            location: None,
        };
        MetalinkFile {
            urls: urls.map(url).collect(),
            ..MetalinkFile::default()
        }
    }

    #[test]
    fn of_many_sites_the_most_preferred_are_asked_each_for_the_files_that_it_has() {
        let urls = |names: &[(&str, u32)]| {
            let names = names.iter();
            file(names.map(|(url, priority)| ((*url).to_owned(), *priority)))
        };
        let files = [
            urls(&[("http://b.example/1", 1), ("http://a.example/1", 2)]),
            urls(&[("http://a.example/2", 1), ("http://a.example/3", 2)]),
        ];
        let said = |(mirror, _): &(Mirror, OriginClass)| -> Vec<Option<String>> {
            let urls = mirror.urls.iter();
            urls.map(|url| url.as_ref().map(Url::to_string)).collect()
        };
        let url = |text: &str| Some(text.to_owned());
        let mirrors: Vec<_> = by_site(&files).iter().map(said).collect();
        assert_eq!(
            mirrors,
            [
                [url("http://b.example/1"), None],
                [url("http://a.example/1"), url("http://a.example/2")],
            ]
        );
    }

    #[test]
    fn a_metalink_of_a_hundred_thousand_sites_takes_no_more_than_those_that_are_asked() {
        let sites = |file: u32| (0..100).map(move |site| (format!("http://a{file}.b{site}/"), 1));
        let files: Vec<MetalinkFile> = (0..1_000).map(|at| file(sites(at))).collect();
        assert_eq!(by_site(&files).len(), MAX_MIRRORS);
    }
}
