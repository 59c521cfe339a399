//! `shoal up` runs a node; the other commands here speak to the one that runs.

mod down;
mod filter;
mod folders;
mod hook;
mod import;
pub(super) mod peer;
pub(super) mod priority;
mod route;
mod schedule;
pub(super) mod tracker;
mod watch;
pub(super) mod webseed;

pub(super) use import::import;
pub(super) use route::route;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use shoal_engine::OWN_ROUTE;
use shoal_metainfo::metainfo::Limits;
use shoal_node::message::{
    Add, Assignment, CarrierKind, Change, ErrorKind, Fate, Reply, Request, RouteRequest, Torrent,
};
use shoal_node::values;
use shoal_node::{Client, ClientError, NetworkSettings, Node, NodeSettings, has_own_route};
use shoal_store::{Database, StoreError};
use shoal_transport::ControlListener;

use super::Done;
use super::show::{is_magnet, running};
use super::transfer::{LEAVE_AT_ONCE, runtime};
use crate::args::{
    AddArgs, AddOptions, CategoryArgs, CategoryDo, LimitArgs, ListArgs, NamedArgs, QueueArgs,
    RemoveArgs, RuleArgs, SettingsArgs, SettingsDo, ShareArgs, SortKey, StateArgs, TagArgs, TagDo,
    UpArgs,
};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::output::event::{Banned, Event, Listening, NotAdded, Span};
use crate::signals::Interrupt;
use crate::{journal_path, listen, signals, torrent_file};

pub(super) use down::down;
pub(super) use filter::filter;
pub(super) use hook::hook;
pub(super) use schedule::schedule;
pub(super) use watch::watch;

pub(super) use folders::{relocate, rename};

const SOCKET: &str = "node.sock";

const DATABASE: &str = "session.db";

/// The socket of the node whose state is there.
pub(super) fn socket(state: &StateArgs) -> Result<PathBuf, Failure> {
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
        let set = NetworkSettings::read(&database).await?;
        // What is stored of the default route holds where a person says nothing else.
        let own_route_said = args.network.says_route() || !has_own_route(&database).await?;
        let engine = match own_route_said {
            true => listen::start_with(&args.network, &args.state, &set).await?,
            false => listen::closed(&args.network, &set).await?,
        };
        let told = [
            ("queue.downloads", args.max_downloads),
            ("queue.seeds", args.max_seeds),
        ];
        let told = told
            .into_iter()
            .filter_map(|(key, most)| Some((key.to_owned(), values::show_most(most?.0))));
        let settings = NodeSettings {
            journals,
            overrides: told.collect(),
            limits: args.network.limits(),
            session: args.network.session(),
            network: listen::network(&args.network, &args.state, &set)?,
            own_route_said,
        };
        let node = Node::start(engine, database, settings).await?;
        let addresses = listening(&node).await?;
        let serving = tokio::spawn(shoal_node::serve(control, node.clone()));
        let shown = output.show(&Event::Listening(Listening { addresses }));
        if shown.is_ok() {
            tokio::select! {
                () = interrupt.wait() => {}
                () = node.told_to_end() => {
                    signals::end_this();
                    interrupt.wait().await;
                }
            }
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

/// Where peers may connect by the default route.
async fn listening(node: &Node) -> Result<Vec<SocketAddr>, Failure> {
    let asked = node.ask(Request::Route(RouteRequest::List {}), None).await;
    let reply = asked.map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
    let Reply::Routes { mut routes } = reply else {
        return Ok(Vec::new());
    };
    routes.retain(|route| route.name == OWN_ROUTE);
    let own = routes.pop();
    Ok(own.map_or_else(Vec::new, |route| route.listening))
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

/// What is told of a torrent as it is added.
fn told(args: &AddOptions) -> Result<Add, Failure> {
    let mut add = Add {
        directory: args.output.as_deref().map(folder).transpose()?,
        current: env::current_dir()
            .ok()
            .and_then(|path| path.to_str().map(str::to_owned)),
        paused: args.paused.then_some(true),
        force: args.force,
        top: args.top.then_some(true),
        name: args.name.clone(),
        category: args.category.clone(),
        layout: args.layout.clone(),
        tags: args.tags.iter().cloned().collect(),
        rules: args.rules(),
        priorities: args
            .priorities
            .iter()
            .flat_map(|wanted| wanted.0.clone())
            .collect(),
        sequential: args.sequential,
        first_last: args.first_last,
        stop_at: args.stop_at.clone(),
        trust: args.trust,
        merge: args.merge.then_some(true),
        peers: args.peers.clone(),
        ..Add::default()
    };
    if let Some(until) = &args.incomplete {
        let until = folders::until_complete(until)?;
        add.rules.insert("incomplete".to_owned(), until);
    }
    Ok(add)
}

/// Gives the running node torrents.
pub(super) fn add(args: &AddArgs, output: &mut Output) -> Done {
    let told = told(&args.options)?;
    if let [source] = &args.sources[..] {
        let (add, file) = addition(args, source, told)?;
        return ask(&args.state, &Request::Add(Box::new(add)), &file, output);
    }
    let of_one = [
        (args.select.is_some(), "--select"),
        (!args.options.priorities.is_empty(), "--priority"),
        (args.options.name.is_some(), "--name"),
    ];
    if let Some((_, option)) = of_one.iter().find(|(said, _)| *said) {
        let message = format!("{option} is about one torrent; add it alone");
        return Err(Failure::new(Exit::Usage, message));
    }
    let (runtime, path) = (runtime()?, socket(&args.state)?);
    let mut client = runtime.block_on(Client::connect(&path))?;
    let mut failed = Vec::new();
    for source in &args.sources {
        let mut one = || {
            let (add, file) = addition(args, source, told.clone())?;
            let request = Request::Add(Box::new(add));
            Ok::<_, Failure>(runtime.block_on(client.ask(&request, &file))?)
        };
        match one() {
            Ok(reply) => drop(show(reply, output)?),
            Err(failure) => {
                output.show(&Event::NotAdded(NotAdded::new(source, &failure)))?;
                failed.push(failure.exit);
            }
        }
    }
    let Some(&first) = failed.first() else {
        return Ok(Exit::Ok);
    };
    let exit = match failed.iter().all(|exit| *exit == first) {
        true => first,
        false => Exit::Failure,
    };
    let (failed, all) = (failed.len(), args.sources.len());
    let message = format!("{failed} of {all} were not added; add them again when that is mended");
    Err(Failure::new(exit, message))
}

/// What the node is asked to add, and the torrent file that goes with it.
fn addition(args: &AddArgs, source: &OsStr, mut add: Add) -> Result<(Add, Vec<u8>), Failure> {
    let link = source.to_str().filter(|text| is_magnet(text));
    let file = match link {
        Some(_) if args.select.is_some() => {
            let message = "the files of a magnet link are not known yet; leave out --select";
            return Err(Failure::new(Exit::Usage, message));
        }
        Some(link) => {
            add.magnet = Some(link.to_owned());
            Vec::new()
        }
        None if is_url(source) => {
            if args.select.is_some() {
                let message =
                    "the files of a torrent behind a URL are not known yet; leave out --select";
                return Err(Failure::new(Exit::Usage, message));
            }
            add.url = source.to_str().map(str::to_owned);
            Vec::new()
        }
        None => {
            let path = Path::new(source);
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
    Ok((add, file))
}

/// Whether this is no file but something that a server has.
pub(super) fn is_url(source: &OsStr) -> bool {
    let scheme = source.to_str().and_then(|text| text.split_once("://"));
    scheme.is_some_and(|(scheme, _)| {
        scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
    })
}

/// A folder as requests have it.
pub(super) fn folder(path: &Path) -> Result<String, Failure> {
    let directory = journal_path::canonical(path)?;
    directory.to_str().map(str::to_owned).ok_or_else(|| {
        let then = "its name is no UTF-8, which requests are made of; rename it or choose another";
        Failure::at(Exit::Usage, "cannot use the folder", path, then)
    })
}

/// Shows what the running node has.
pub(super) fn list(args: ListArgs, output: &mut Output) -> Done {
    let torrents = args.torrents;
    let reply = answer(&args.state, &Request::List { torrents }, &[])?;
    let Reply::Torrents { mut torrents } = reply else {
        return show(reply, output);
    };
    sort(&mut torrents, args.sort);
    if args.reverse {
        torrents.reverse();
    }
    let most = args.limit.unwrap_or(usize::MAX);
    let torrents = torrents.into_iter().skip(args.offset).take(most).collect();
    show(Reply::Torrents { torrents }, output)
}

/// They come in the order in which they were added, which decides between equals.
fn sort(torrents: &mut [Torrent], key: SortKey) {
    let part = |part: u64, whole: u64| u128::from(part) * 1_000_000 / u128::from(whole.max(1));
    match key {
        SortKey::Id => {}
        SortKey::Queue => torrents.sort_by_key(|torrent| torrent.position.unwrap_or(usize::MAX)),
        SortKey::Name => torrents.sort_by(|a, b| a.name.cmp(&b.name)),
        SortKey::State => torrents.sort_by_key(|torrent| torrent.state.name()),
        SortKey::Size => torrents.sort_by_key(|torrent| torrent.wanted_bytes),
        SortKey::Progress => {
            torrents.sort_by_key(|torrent| part(torrent.verified_bytes, torrent.wanted_bytes));
        }
        SortKey::Ratio => {
            torrents.sort_by_key(|torrent| part(torrent.uploaded_bytes, torrent.downloaded_bytes));
        }
        SortKey::Down => torrents.sort_by_key(|torrent| torrent.download_rate_bytes_per_s),
        SortKey::Up => torrents.sort_by_key(|torrent| torrent.upload_rate_bytes_per_s),
    }
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

/// Lets torrents run whatever the queue says.
pub(super) fn start(args: NamedArgs, output: &mut Output) -> Done {
    let torrents = args.torrents;
    ask(&args.state, &Request::Start { torrents }, &[], output)
}

/// Has torrents verified again.
pub(super) fn recheck(args: NamedArgs, output: &mut Output) -> Done {
    let torrents = args.torrents;
    ask(&args.state, &Request::Recheck { torrents }, &[], output)
}

/// Forgets torrents.
pub(super) fn remove(args: RemoveArgs, output: &mut Output) -> Done {
    let data = match (args.data, args.trash) {
        (false, _) => None,
        (true, false) => Some(Fate::Delete),
        (true, true) => Some(Fate::Trash),
    };
    let torrents = args.torrents;
    ask(
        &args.state,
        &Request::Remove { torrents, data },
        &[],
        output,
    )
}

/// Gives torrents another place in the queue.
pub(super) fn queue(args: QueueArgs, output: &mut Output) -> Done {
    let (torrents, to) = (vec![args.torrents], args.to);
    ask(&args.state, &Request::Queue { torrents, to }, &[], output)
}

/// Limits rates.
pub(super) fn limit(args: LimitArgs, output: &mut Output) -> Done {
    let rules = args.rules();
    tell_rules(&args.state, args.target, rules, output)
}

/// Says how much is given.
pub(super) fn share(args: ShareArgs, output: &mut Output) -> Done {
    let rules = args.rules();
    tell_rules(&args.state, args.target, rules, output)
}

fn tell_rules(
    state: &StateArgs,
    target: String,
    rules: BTreeMap<String, String>,
    output: &mut Output,
) -> Done {
    let request = match (target.as_str(), rules.is_empty()) {
        ("session", true) => Request::Carriers {
            kind: CarrierKind::Session,
        },
        ("session", false) => Request::SetCarrier {
            kind: CarrierKind::Session,
            name: String::new(),
            rules,
        },
        (_, true) => Request::List {
            torrents: vec![target],
        },
        (_, false) => changed(target, |change| change.rules = rules),
    };
    ask(state, &request, &[], output)
}

fn changed(torrents: String, tell: impl FnOnce(&mut Change)) -> Request {
    let mut change = Change {
        torrents: vec![torrents],
        ..Change::default()
    };
    tell(&mut change);
    Request::Change(Box::new(change))
}

fn set_carrier(kind: CarrierKind, args: &RuleArgs) -> Request {
    Request::SetCarrier {
        kind,
        name: args.name.clone(),
        rules: args.rules(),
    }
}

/// Categories.
pub(super) fn category(args: CategoryArgs, output: &mut Output) -> Done {
    let kind = CarrierKind::Category;
    let request = match args.does.unwrap_or(CategoryDo::List) {
        CategoryDo::List => Request::Carriers { kind },
        CategoryDo::Set(rules) => set_carrier(kind, &rules),
        CategoryDo::Rm { names } => Request::RemoveCarriers { kind, names },
        CategoryDo::Put { torrents, name } => {
            let name = if name == "none" { String::new() } else { name };
            changed(torrents, |change| change.category = Some(name))
        }
    };
    ask(&args.state, &request, &[], output)
}

/// Tags.
pub(super) fn tag(args: TagArgs, output: &mut Output) -> Done {
    let kind = CarrierKind::Tag;
    let request = match args.does.unwrap_or(TagDo::List) {
        TagDo::List => Request::Carriers { kind },
        TagDo::Set(rules) => set_carrier(kind, &rules),
        TagDo::Rm { names } => Request::RemoveCarriers { kind, names },
        TagDo::Put {
            torrents,
            names,
            only,
        } => changed(torrents, |change| {
            let names = names.into_iter().collect();
            match only {
                true => change.tags = Some(names),
                false => change.tags_too = names,
            }
        }),
        TagDo::Take { torrents, names } => changed(torrents, |change| {
            change.tags_not = names.into_iter().collect();
        }),
    };
    ask(&args.state, &request, &[], output)
}

/// Settings.
pub(super) fn settings(args: SettingsArgs, output: &mut Output) -> Done {
    let request = match args.does.unwrap_or(SettingsDo::List) {
        SettingsDo::List => Request::Settings {},
        SettingsDo::Set { assignments } => {
            let assignments = assignments.iter().map(|text| assignment(text));
            Request::Set {
                assignments: assignments.collect::<Result<_, _>>()?,
            }
        }
        SettingsDo::Reset { keys } => {
            let reset = keys.into_iter().map(|key| Assignment::Reset { key });
            Request::Set {
                assignments: reset.collect(),
            }
        }
    };
    ask(&args.state, &request, &[], output)
}

/// `KEY=VALUE`, `KEY+=VALUE` or `KEY-=VALUE`.
fn assignment(text: &str) -> Result<Assignment, Failure> {
    let Some((key, value)) = text.split_once('=') else {
        let message = format!("{text:?} sets nothing; write KEY=VALUE");
        return Err(Failure::new(Exit::Usage, message));
    };
    let value = value.to_owned();
    Ok(match (key.strip_suffix('+'), key.strip_suffix('-')) {
        (Some(key), _) => Assignment::Insert {
            key: key.to_owned(),
            value,
        },
        (_, Some(key)) => Assignment::Take {
            key: key.to_owned(),
            value,
        },
        (None, None) => Assignment::Set {
            key: key.to_owned(),
            value,
        },
    })
}

/// Asks the running node, and shows what it answers.
/// Asks the running node, and shows what it answers.
pub(super) fn ask(state: &StateArgs, request: &Request, file: &[u8], output: &mut Output) -> Done {
    show(answer(state, request, file)?, output)
}

fn answer(state: &StateArgs, request: &Request, file: &[u8]) -> Result<Reply, Failure> {
    let path = socket(state)?;
    let reply = runtime()?.block_on(async {
        let mut client = Client::connect(&path).await?;
        client.ask(request, file).await
    })?;
    Ok(reply)
}

fn show(reply: Reply, output: &mut Output) -> Done {
    match reply {
        Reply::Torrents { torrents } => {
            for torrent in torrents {
                output.show(&Event::SessionTorrent(Box::new(torrent.into())))?;
            }
        }
        Reply::Settings { settings } => {
            for setting in settings {
                output.show(&Event::Setting(setting.into()))?;
            }
        }
        Reply::Carriers { carriers } => {
            for carrier in carriers {
                output.show(&Event::Rules(carrier.into()))?;
            }
        }
        Reply::Trackers { trackers } => {
            for tracker in trackers {
                output.show(&Event::TorrentTracker(tracker.into()))?;
            }
        }
        Reply::Peers { peers } => {
            for peer in peers {
                output.show(&Event::Peer(Box::new(peer.into())))?;
            }
        }
        Reply::Banned { addresses } => {
            for address in addresses {
                output.show(&Event::Banned(Banned { address }))?;
            }
        }
        Reply::WebSeeds { web_seeds } => {
            for seed in web_seeds {
                output.show(&Event::TorrentWebSeed(seed.into()))?;
            }
        }
        Reply::Shown(shown) => running::say(shown, output)?,
        Reply::Routes { routes } => {
            for route in routes {
                output.show(&Event::Route(route.into()))?;
            }
        }
        Reply::Interfaces { interfaces } => {
            for interface in interfaces {
                output.show(&Event::Interface(interface.into()))?;
            }
        }
        // These come where they are waited for, one after the other.
        Reply::Import { .. } => {}
        Reply::AddressLists { lists } => {
            for list in lists {
                output.show(&Event::AddressList(list.into()))?;
            }
        }
        Reply::Address(tested) => output.show(&Event::Address(tested.into()))?,
        Reply::Schedule(schedule) => {
            for span in Span::all(&schedule) {
                output.show(&Event::Span(span))?;
            }
            output.show(&Event::Schedule(schedule.into()))?;
        }
        Reply::WatchedFolders { folders } => {
            for folder in folders {
                output.show(&Event::Watch(Box::new(folder.into())))?;
            }
        }
        Reply::Hooks { hooks } => {
            for hook in hooks {
                output.show(&Event::Hook(hook.into()))?;
            }
        }
        Reply::Ending {} => {}
        // The client has made it an error.
        Reply::Error { message, .. } => return Err(Failure::new(Exit::Failure, message)),
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
