//! `shoal show`: what is inside of a torrent or magnet link.

mod scrape;

use std::path::Path;

use shoal_metainfo::Magnet;

use super::{Done, describe};
use crate::args::ShowArgs;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::output::event::Event;
use crate::torrent_file;
use scrape::Scraper;

/// Shows it, and asks its trackers if that is wanted. What is odd, and what trackers say, is no failure.
pub(super) fn run(args: &ShowArgs, output: &mut Output) -> Done {
    let link = args.source.to_str().filter(|text| is_magnet(text));
    let scraper = args.scrape.then(|| Scraper::new(args)).transpose()?;
    let (event, trackers, hashes) = match link {
        Some(link) => {
            let magnet = Magnet::parse(link).map_err(|error| {
                Failure::new(Exit::Refused, format!("magnet link refused: {error}"))
            })?;
            let event = Event::Magnet(Box::new(describe::magnet(&magnet)));
            (event, magnet.trackers, magnet.info_hashes)
        }
        None => {
            let metainfo = torrent_file::read(Path::new(&args.source))?;
            let event = Event::Torrent(Box::new(describe::torrent(&metainfo, args.all)));
            let trackers = metainfo.trackers().concat();
            (event, trackers, metainfo.info_hashes())
        }
    };
    output.show(&event)?;
    if let Some(scraper) = scraper {
        scraper.run(&trackers, &hashes, output)?;
    }
    Ok(Exit::Ok)
}

/// Whether a text is meant as a magnet link.
pub(super) fn is_magnet(text: &str) -> bool {
    let scheme = text.trim_start().get(.."magnet:".len());
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("magnet:"))
}
