//! `shoal show`: what is inside of a torrent or magnet link, or what the running node has.

pub(super) mod running;
mod scrape;

use std::ffi::OsStr;
use std::path::Path;

use shoal_metainfo::Magnet;
use shoal_node::reads_as_id;

use super::{Done, describe};
use crate::args::ShowArgs;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::output::event::Event;
use crate::torrent_file;
use scrape::Scraper;

/// What is to be shown.
enum Meant<'a> {
    /// The running node.
    Session,
    /// Torrents of the running node.
    Torrents(&'a str),
    /// A torrent of the running node, or else a file that is not there.
    Name(&'a str),
    Link(&'a str),
    File(&'a Path),
}

impl<'a> Meant<'a> {
    fn by(source: Option<&'a OsStr>) -> Self {
        let Some(source) = source else {
            return Meant::Session;
        };
        let path = Path::new(source);
        match source.to_str() {
            Some(text) if is_magnet(text) => Meant::Link(text),
            Some(text) if reads_as_id(text) => Meant::Torrents(text),
            Some(text) if !path.is_absolute() && !text.starts_with('.') && absent(path) => {
                Meant::Name(text)
            }
            _ => Meant::File(path),
        }
    }
}

fn absent(path: &Path) -> bool {
    path.symlink_metadata().is_err()
}

/// Shows it, and asks its trackers if that is wanted. What is odd, and what trackers say, is no failure.
pub(super) fn run(args: &ShowArgs, output: &mut Output) -> Done {
    match Meant::by(args.source.as_deref()) {
        Meant::Session => running::session(&args.state, output),
        Meant::Torrents(id) => running::torrents(args, id, output),
        Meant::Name(name) => match running::named(args, name, output)? {
            Some(exit) => Ok(exit),
            None => file(args, Path::new(name), output),
        },
        Meant::Link(link) => magnet(args, link, output),
        Meant::File(path) => file(args, path, output),
    }
}

fn magnet(args: &ShowArgs, link: &str, output: &mut Output) -> Done {
    refuse_parts(args)?;
    let scraper = args.scrape.then(|| Scraper::new(args)).transpose()?;
    let magnet = Magnet::parse(link)
        .map_err(|error| Failure::new(Exit::Refused, format!("magnet link refused: {error}")))?;
    output.show(&Event::Magnet(Box::new(describe::magnet(&magnet))))?;
    if let Some(scraper) = scraper {
        scraper.run(&magnet.trackers, &magnet.info_hashes, output)?;
    }
    Ok(Exit::Ok)
}

fn file(args: &ShowArgs, path: &Path, output: &mut Output) -> Done {
    refuse_parts(args)?;
    let scraper = args.scrape.then(|| Scraper::new(args)).transpose()?;
    let metainfo = torrent_file::read(path)?;
    let shown = describe::torrent(&metainfo, args.all);
    output.show(&Event::Torrent(Box::new(shown)))?;
    if let Some(scraper) = scraper {
        let trackers = metainfo.trackers().concat();
        scraper.run(&trackers, &metainfo.info_hashes(), output)?;
    }
    Ok(Exit::Ok)
}

/// What a node alone knows.
fn refuse_parts(args: &ShowArgs) -> Result<(), Failure> {
    let option = match args {
        ShowArgs { files: true, .. } => "--files",
        ShowArgs { pieces: true, .. } => "--pieces",
        ShowArgs { hashes: true, .. } => "--hashes",
        ShowArgs { save: Some(_), .. } => "--save",
        _ => return Ok(()),
    };
    let message =
        format!("{option} is for a torrent of the running node; name one as in `shoal list`");
    Err(Failure::new(Exit::Usage, message))
}

/// Whether a text is meant as a magnet link.
pub(super) fn is_magnet(text: &str) -> bool {
    let scheme = text.trim_start().get(.."magnet:".len());
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("magnet:"))
}
