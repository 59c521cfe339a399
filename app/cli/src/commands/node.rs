//! `shoal up` runs a node; `add`, `list`, `pause`, `resume` and `rm` speak to the one that runs.

use std::io;
use std::path::{Path, PathBuf};

use shoal_metainfo::metainfo::Limits;
use shoal_node::message::{Add, ErrorKind, Request};
use shoal_node::queue;
use shoal_node::{Client, ClientError, Node, NodeSettings};
use shoal_store::{Database, StoreError};
use shoal_transport::ControlListener;

use super::transfer::{LEAVE_AT_ONCE, runtime};
use super::{Done, show};
use crate::args::{AddArgs, NamedArgs, StateArgs, UpArgs};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::output::event::{Event, Listening};
use crate::signals::Interrupt;
use crate::{journal_path, listen, torrent_file};

const SOCKET: &str = "node.sock";

const DATABASE: &str = "session.db";

/// The socket of the node whose state is there.
fn socket(state: &StateArgs) -> Result<PathBuf, Failure> {
    let folder = journal_path::state_folder("", state.state_dir.as_deref())?;
    Ok(folder.join(SOCKET))
}

/// Runs a node until it is told to end.
pub(super) fn up(args: &UpArgs, output: &mut Output) -> Done {
    if !args.network.peers.is_empty() || !args.network.trackers.is_empty() {
        let message =
            "a node has no peers and trackers of its own: name peers with `shoal add --peer`";
        return Err(Failure::new(Exit::Usage, message));
    }
    let mut interrupt = Interrupt::watch();
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let control = control(&args.state).await?;
        let folder = journal_path::state_folder("", args.state.state_dir.as_deref())?;
        let journals = journal_path::state_folder("journals", args.state.state_dir.as_deref())?;
        let database = Database::open(&folder.join(DATABASE)).await?;
        let engine = listen::start(&args.network, &args.state).await?;
        let addresses = engine.listening().to_vec();
        let settings = NodeSettings {
            journals,
            queue: queue::Settings {
                max_downloads: args.max_downloads.0,
                max_seeds: args.max_seeds.0,
                ..queue::Settings::default()
            },
        };
        let node = Node::start(engine, database, settings).await?;
        let serving = tokio::spawn(shoal_node::serve(control, node.clone()));
        let shown = output.show(&Event::Listening(Listening { addresses }));
        if shown.is_ok() {
            interrupt.wait().await;
        }
        // Nobody is heard any more, and the next node can have the socket.
        serving.abort();
        node.stop(LEAVE_AT_ONCE).await;
        shown?;
        Ok(Exit::Ok)
    });
    // A disk that does not answer must not keep the process.
    runtime.shutdown_background();
    done
}

async fn control(state: &StateArgs) -> Result<ControlListener, Failure> {
    let path = socket(state)?;
    ControlListener::bind(&path).await.map_err(|error| {
        let then = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "a node runs there already; stop it, or choose another with --state-dir".to_owned()
            }
            io::ErrorKind::AlreadyExists => {
                "something that is no socket is there; move it away".to_owned()
            }
            io::ErrorKind::InvalidInput => {
                "the path is too long for a socket; choose a shorter --state-dir".to_owned()
            }
            _ => format!("{error}; choose another with --state-dir"),
        };
        Failure::at(Exit::Unusable, "cannot listen for requests", &path, then)
    })
}

/// Gives the running node a torrent.
pub(super) fn add(args: &AddArgs, output: &mut Output) -> Done {
    let directory = journal_path::canonical(&args.output)?;
    let directory = directory.to_str().map(str::to_owned).ok_or_else(|| {
        let then = "its name is no UTF-8, which requests are made of; rename it or choose another";
        Failure::at(Exit::Usage, "cannot use the folder", &args.output, then)
    })?;
    let mut add = Add {
        directory,
        paused: args.paused,
        sequential: args.sequential,
        peers: args.peers.clone(),
        ..Add::default()
    };
    let link = args.source.to_str().filter(|text| show::is_magnet(text));
    let file = match link {
        Some(_) if args.select.is_some() => {
            let message = "the files of a magnet link are not known yet; leave out --select";
            return Err(Failure::new(Exit::Usage, message));
        }
        Some(link) => {
            add.magnet = Some(link.to_owned());
            Vec::new()
        }
        None => {
            let path = Path::new(&args.source);
            // What is wrong with it is said as by other commands, before a node hears of it.
            let file = torrent_file::bytes(path)?;
            let origin = path.display().to_string();
            let metainfo = torrent_file::parse(&file, Limits::LOCAL, &origin)?;
            let selection = args.select.as_ref().map(|select| select.resolve(&metainfo));
            add.selection = selection.transpose()?;
            add.torrent_bytes = Some(file.len());
            file
        }
    };
    ask(&args.state, &Request::Add(add), &file, output)
}

/// Shows what the running node has.
pub(super) fn list(state: &StateArgs, output: &mut Output) -> Done {
    ask(state, &Request::List {}, &[], output)
}

/// Lets torrents rest.
pub(super) fn pause(args: NamedArgs, output: &mut Output) -> Done {
    let torrents = args.torrents;
    ask(&args.state, &Request::Pause { torrents }, &[], output)
}

/// Lets torrents go on.
pub(super) fn resume(args: NamedArgs, output: &mut Output) -> Done {
    let torrents = args.torrents;
    ask(&args.state, &Request::Resume { torrents }, &[], output)
}

/// Forgets torrents.
pub(super) fn remove(args: NamedArgs, output: &mut Output) -> Done {
    let torrents = args.torrents;
    ask(&args.state, &Request::Remove { torrents }, &[], output)
}

/// Asks the running node, and shows the torrents that the answer is about.
fn ask(state: &StateArgs, request: &Request, file: &[u8], output: &mut Output) -> Done {
    let path = socket(state)?;
    let torrents = runtime()?.block_on(async {
        let mut client = Client::connect(&path).await?;
        client.ask(request, file).await
    })?;
    for torrent in torrents {
        output.show(&Event::SessionTorrent(Box::new(torrent.into())))?;
    }
    Ok(Exit::Ok)
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let exit = match &error {
            ClientError::Refused { kind, .. } => match kind {
                ErrorKind::Usage => Exit::Usage,
                ErrorKind::Refused => Exit::Refused,
                ErrorKind::NotFound | ErrorKind::Duplicate | ErrorKind::Failure => Exit::Failure,
            },
            ClientError::Absent | ClientError::Broken { .. } => Exit::Failure,
        };
        Failure::new(exit, error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::new(Exit::Unusable, error.to_string())
    }
}
