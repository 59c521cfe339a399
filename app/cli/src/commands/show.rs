//! `shoal show`: what is inside of a torrent or magnet link.

use std::path::Path;

use shoal_metainfo::Magnet;

use super::{Done, describe};
use crate::args::ShowArgs;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::output::event::Event;
use crate::torrent_file;

/// Shows it. What is odd is a warning and no failure.
pub(super) fn run(args: &ShowArgs, output: &mut Output) -> Done {
    let link = args.source.to_str().filter(|text| is_magnet(text));
    let event = match link {
        Some(link) => {
            let magnet = Magnet::parse(link).map_err(|error| {
                Failure::new(Exit::Refused, format!("magnet link refused: {error}"))
            })?;
            Event::Magnet(Box::new(describe::magnet(&magnet)))
        }
        None => {
            let metainfo = torrent_file::read(Path::new(&args.source))?;
            Event::Torrent(Box::new(describe::torrent(&metainfo, args.all)))
        }
    };
    output.show(&event)?;
    Ok(Exit::Ok)
}

/// Whether a text is meant as a magnet link.
pub(super) fn is_magnet(text: &str) -> bool {
    let scheme = text.trim_start().get(.."magnet:".len());
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("magnet:"))
}
