//! `shoal show` of what the running node has: its session, and torrents of it.
//!
//! Invariant: what has no bound is asked for part by part.

use std::path::Path;

use shoal_node::message::{ErrorKind, Reply, Request, ShowRequest, Shown};
use shoal_node::{Client, ClientError};
use tokio::runtime::Runtime;

use crate::args::{ShowArgs, StateArgs};
use crate::commands::transfer::runtime;
use crate::commands::{Done, create, node};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::output::event::{Event, Saved};

/// More than any .torrent file that a node has.
const MAX_FILE_BYTES: usize = 128 * 1024 * 1024;

/// Shows the session.
pub(super) fn session(state: &StateArgs, output: &mut Output) -> Done {
    let mut asked = Asked::connect(state)?.ok_or(ClientError::Absent)?;
    say(asked.ask(ShowRequest::Session {})?, output)?;
    Ok(Exit::Ok)
}

/// Shows what is wanted of torrents.
pub(super) fn torrents(args: &ShowArgs, id: &str, output: &mut Output) -> Done {
    let Some(asked) = Asked::connect(&args.state)? else {
        let mut message = ClientError::Absent.to_string();
        if Path::new(id).exists() {
            message += &format!("; the file of that name is ./{id}");
        }
        return Err(Failure::new(Exit::Failure, message));
    };
    show(args, id, asked, output)
}

/// Shows what is wanted of the torrent of this name, where there is no such file; `None` where no node runs.
pub(super) fn named(
    args: &ShowArgs,
    name: &str,
    output: &mut Output,
) -> Result<Option<Exit>, Failure> {
    let Some(mut asked) = Asked::connect(&args.state)? else {
        return Ok(None);
    };
    asked.or_a_file = true;
    show(args, name, asked, output).map(Some)
}

fn show(args: &ShowArgs, id: &str, mut asked: Asked, output: &mut Output) -> Done {
    let option = match args {
        ShowArgs { all: true, .. } => Some("--all"),
        ShowArgs { scrape: true, .. } => Some("--scrape"),
        _ => None,
    };
    if let Some(option) = option {
        let message = format!("{option} is for a torrent file; a file of that name is ./{id}");
        return Err(Failure::new(Exit::Usage, message));
    }
    let torrents = vec![id.to_owned()];
    if let Some(target) = &args.save {
        return save(&torrents, target, args.force, &mut asked, output);
    }
    if args.files {
        return files(&torrents, &mut asked, output);
    }
    if args.hashes {
        return hashes(&torrents, &mut asked, output);
    }
    let request = match args.pieces {
        true => ShowRequest::Pieces { torrents },
        false => ShowRequest::Torrents { torrents },
    };
    say(asked.ask(request)?, output)?;
    Ok(Exit::Ok)
}

fn files(torrents: &[String], asked: &mut Asked, output: &mut Output) -> Done {
    let mut from = Some(1);
    while let Some(first) = from {
        let torrents = torrents.to_vec();
        let request = ShowRequest::Files {
            torrents,
            from: first,
        };
        let shown = asked.ask(request)?;
        from = match shown {
            Shown::Files { next, .. } => next.filter(|&next| next > first),
            _ => None,
        };
        say(shown, output)?;
    }
    Ok(Exit::Ok)
}

fn hashes(torrents: &[String], asked: &mut Asked, output: &mut Output) -> Done {
    let mut from = Some(0);
    while let Some(first) = from {
        let torrents = torrents.to_vec();
        let request = ShowRequest::Hashes {
            torrents,
            from: first,
        };
        let shown = asked.ask(request)?;
        from = match shown {
            Shown::Hashes { next, .. } => next.filter(|&next| next > first),
            _ => None,
        };
        say(shown, output)?;
    }
    Ok(Exit::Ok)
}

fn save(
    torrents: &[String],
    target: &Path,
    force: bool,
    asked: &mut Asked,
    output: &mut Output,
) -> Done {
    create::refuse_overwriting(target, force)?;
    let mut bytes = Vec::new();
    loop {
        let request = ShowRequest::File {
            torrents: torrents.to_vec(),
            from: bytes.len() as u64,
        };
        let (total, part) = match asked.ask(request)? {
            Shown::File { total_bytes, part } => (total_bytes, from_digits(&part)),
            _ => (0, None),
        };
        let part = part.filter(|part| bytes.len() + part.len() <= MAX_FILE_BYTES);
        let Some(part) = part else {
            let message = "the node's answer cannot be read; is it of the same version?";
            return Err(Failure::new(Exit::Failure, message));
        };
        let is_end = part.is_empty();
        bytes.extend(part);
        if bytes.len() as u64 >= total {
            break;
        }
        if is_end {
            let message = "the node gave only a part of the torrent file; ask again";
            return Err(Failure::new(Exit::Failure, message));
        }
    }
    create::write(&bytes, target, force)?;
    output.show(&Event::Saved(Saved {
        path: target.display().to_string(),
        size_bytes: bytes.len() as u64,
    }))?;
    Ok(Exit::Ok)
}

/// Bytes that were written in hexadecimal digits.
fn from_digits(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(high)? << 4 | digit(low)?).ok();
    pairs.iter().map(byte).collect()
}

/// A connection to the running node.
struct Asked {
    runtime: Runtime,
    client: Client,
    /// A file could be meant too, and is not there.
    or_a_file: bool,
}

impl Asked {
    /// `None` where no node runs.
    fn connect(state: &StateArgs) -> Result<Option<Self>, Failure> {
        let (path, runtime) = (node::socket(state)?, runtime()?);
        match runtime.block_on(Client::connect(&path)) {
            Ok(client) => Ok(Some(Asked {
                runtime,
                client,
                or_a_file: false,
            })),
            Err(ClientError::Absent) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn ask(&mut self, request: ShowRequest) -> Result<Shown, Failure> {
        let request = Request::Show(request);
        match self.runtime.block_on(self.client.ask(&request, &[])) {
            Ok(Reply::Shown(shown)) => Ok(shown),
            Ok(_) => {
                let message = "the node answers something else; is it of the same version?";
                Err(Failure::new(Exit::Failure, message))
            }
            Err(ClientError::Refused {
                kind: ErrorKind::NotFound,
                message,
            }) if self.or_a_file => {
                let message = format!("there is no such file, and {message}");
                Err(Failure::new(Exit::Failure, message))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Says what is shown.
pub(in crate::commands) fn say(shown: Shown, output: &mut Output) -> Result<(), Failure> {
    match shown {
        Shown::Session(session) => output.show(&Event::Session(session)),
        Shown::Torrents { torrents } => torrents.into_iter().try_for_each(|torrent| {
            let event = Event::SessionTorrentDetails(Box::new(torrent));
            output.show(&event)
        }),
        Shown::Files { files, .. } => files
            .into_iter()
            .try_for_each(|file| output.show(&Event::SessionFile(Box::new(file)))),
        Shown::Pieces(pieces) => output.show(&Event::SessionPieces(pieces)),
        Shown::Hashes { hashes, .. } => hashes
            .into_iter()
            .try_for_each(|hash| output.show(&Event::SessionPieceHash(hash))),
        // It is written to a file, part by part.
        Shown::File { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_as_bytes_and_nothing_else_is() {
        assert_eq!(from_digits("00fF10"), Some(vec![0, 255, 16]));
        assert_eq!(from_digits(""), Some(Vec::new()));
        for wrong in ["0", "0g", "é"] {
            assert_eq!(from_digits(wrong), None, "{wrong}");
        }
    }
}
