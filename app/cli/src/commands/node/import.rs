//! `shoal import`: the running node takes over another client's torrents, and each is told of as it comes.

use std::path;

use shoal_node::Client;
use shoal_node::message::{Import, ImportNews, MovedFolder};

use super::socket;
use crate::args::ImportArgs;
use crate::commands::Done;
use crate::commands::transfer::runtime;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::output::event::{Event, Warning};

/// Has torrents of another client taken over.
pub(in crate::commands) fn import(args: ImportArgs, output: &mut Output) -> Done {
    let folder = args.folder.as_deref().map(super::folder).transpose()?;
    let import = Import {
        client: args.from.client(),
        folder,
        dry_run: args.dry_run,
        paused: args.paused,
        map: args.map.into_iter().map(from_the_root).collect(),
        only: args.only,
    };
    let path = socket(&args.state)?;
    let mut is_whole = true;
    runtime()?.block_on(async {
        let mut client = Client::connect(&path).await?;
        let hear = |news| {
            if let ImportNews::Done { refused, .. } = &news {
                is_whole = *refused == 0;
            }
            show(news, output)
        };
        client.import(import, hear).await
    })?;
    if !is_whole {
        let message = "not every torrent was taken over; what to do is said of each that was not";
        return Err(Failure::new(Exit::Refused, message));
    }
    Ok(Exit::Ok)
}

/// A folder that is named from here.
fn from_the_root(moved: MovedFolder) -> MovedFolder {
    let new = path::absolute(&moved.new).ok();
    let new = new.and_then(|new| new.to_str().map(str::to_owned));
    match new {
        Some(new) => MovedFolder { new, ..moved },
        None => moved,
    }
}

fn show(news: ImportNews, output: &mut Output) -> Result<(), Failure> {
    match news {
        ImportNews::Begun {
            client,
            folder,
            torrents,
            dry_run,
            warnings,
        } => {
            for message in warnings {
                output.show(&Event::Warning(Warning { message }))?;
            }
            output.show(&Event::ImportBegun(crate::output::event::ImportBegun {
                client,
                folder,
                torrents,
                dry_run,
            }))
        }
        ImportNews::Torrent(torrent) => {
            output.show(&Event::ImportTorrent(Box::new((*torrent).into())))
        }
        ImportNews::Done {
            imported,
            already,
            refused,
            left_out,
        } => output.show(&Event::ImportDone(crate::output::event::ImportDone {
            imported,
            already,
            refused,
            left_out,
        })),
    }
}
