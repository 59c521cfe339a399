//! What events say to people, as lines.

mod import;
mod node;

use std::collections::BTreeMap;

use super::event::{
    Address, AddressList, Checked, Complete, Created, Event, FileEvent, Hook, MagnetEvent,
    Metadata, Peer, Progress, Route, Rules, Schedule, Scrape, SessionTorrent, Setting, Span,
    Started, Stopped, SwarmFigures, TorrentEvent, TorrentFile, TorrentTracker, Tracker, Watch,
    WebSeed,
};
use shoal_node::message::{Afterwards, Holds, Now};

use super::text::Line;
use crate::units::{PieceLength, Seconds, Size, Timestamp};

/// Runs of pieces that are listed at once; JSON has them all.
const MAX_RUNS_SHOWN: usize = 10;

/// What `event` says.
pub(super) fn lines(event: &Event) -> Vec<Line> {
    match event {
        Event::Listening(listening) => {
            let addresses: Vec<String> = listening
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect();
            vec![Line::plain(format!(
                "listening on {}",
                addresses.join(", ")
            ))]
        }
        Event::Torrent(torrent) => show_torrent(torrent),
        Event::Magnet(magnet) => show_magnet(magnet),
        Event::Scrape(scrape) => vec![show_scrape(scrape)],
        Event::Created(created) => show_created(created),
        Event::Started(started) => vec![show_started(started)],
        Event::Metadata(_) | Event::Hashing(_) | Event::Checking(_) | Event::Progress(_) => {
            vec![Line::plain(progress(event))]
        }
        Event::Tracker(tracker) => vec![show_tracker(tracker)],
        Event::WebSeed(seed) => vec![show_web_seed(seed)],
        Event::Suspended(suspended) => vec![
            Line::bad("waiting: ")
                .then(format!("{}: {}; ", suspended.path, suspended.reason))
                .then("it goes on by itself when this is over"),
        ],
        Event::Continued(_) => vec![Line::plain("going on: writing works again")],
        Event::Complete(complete) => vec![show_complete(complete)],
        Event::Stopped(stopped) => vec![show_stopped(stopped)],
        Event::File(file) => vec![show_wrong_file(file)],
        Event::Checked(checked) => vec![show_checked(checked)],
        Event::SessionTorrent(torrent) => show_session_torrent(torrent),
        Event::NotAdded(one) => {
            vec![Line::bad("not added: ").then(format!("{}: {}", one.source, one.message))]
        }
        Event::TorrentTracker(tracker) => vec![show_torrent_tracker(tracker)],
        Event::Peer(peer) => vec![show_peer(peer)],
        Event::Banned(banned) => vec![Line::plain(banned.address.to_string())],
        Event::TorrentWebSeed(seed) => {
            vec![Line::plain(format!("{:>4}  {}", seed.torrent, seed.url))]
        }
        Event::Setting(setting) => show_setting(setting),
        Event::Rules(rules) => vec![show_rules(rules)],
        Event::Session(session) => node::session(session),
        Event::SessionTorrentDetails(torrent) => node::torrent(torrent),
        Event::SessionFile(file) => vec![node::file(file)],
        Event::SessionPieces(pieces) => node::pieces(pieces),
        Event::SessionPieceHash(hash) => vec![node::hash(hash)],
        Event::Saved(saved) => vec![Line::field("torrent", &saved.path)],
        Event::Route(route) => show_route(route),
        Event::Interface(interface) => vec![Line::plain(format!(
            "{}  {}",
            interface.name,
            listed(&interface.addresses)
        ))],
        Event::ImportBegun(begun) => vec![import::begun(begun)],
        Event::ImportTorrent(torrent) => import::torrent(torrent),
        Event::ImportDone(done) => vec![import::done(done)],
        Event::AddressList(list) => show_address_list(list),
        Event::Address(address) => vec![show_address(address)],
        Event::Watch(watch) => show_watch(watch),
        Event::Hook(hook) => vec![show_hook(hook)],
        Event::Span(span) => vec![show_span(span)],
        Event::Schedule(schedule) => vec![show_schedule(schedule)],
        Event::Warning(warning) => vec![Line::bad("warning: ").then(&warning.message)],
        // The line for people goes to standard error.
        Event::Error(_) => Vec::new(),
    }
}

/// How far it is, in one line.
pub(super) fn progress(event: &Event) -> String {
    match event {
        Event::Metadata(metadata) => show_metadata(metadata),
        Event::Hashing(hashing) => {
            let (done, total) = (Size(hashing.done_bytes), Size(hashing.total_bytes));
            let rate = Size(hashing.rate_bytes_per_s);
            format!(
                "hashing: {done} of {total}, {rate}/s{}",
                left(hashing.time_left_s)
            )
        }
        Event::Checking(checking) => format!(
            "checking: {} of {} pieces{}",
            checking.checked_pieces,
            checking.total_pieces,
            left(checking.time_left_s)
        ),
        Event::Progress(progress) => show_progress(progress),
        _ => String::new(),
    }
}

fn show_metadata(metadata: &Metadata) -> String {
    let peers = count(metadata.peers as usize, "peer");
    let known = metadata.candidates;
    match metadata.total_bytes {
        _ if metadata.wants_hashes => format!("asking for hashes: {peers}"),
        Some(total_bytes) if metadata.received_bytes > 0 => {
            let (got, total) = (Size(metadata.received_bytes), Size(total_bytes));
            format!("metadata: {got} of {total}, {peers}")
        }
        _ => format!("looking for metadata: {peers}, {known} known"),
    }
}

fn left(time_left_s: Option<u64>) -> String {
    time_left_s.map_or_else(String::new, |seconds| {
        format!(", {} left", Seconds(seconds))
    })
}

/// As [`progress`], where a bar shows the amount: 80 columns have to do.
pub(super) fn beside_bar(event: &Event) -> String {
    match event {
        Event::Progress(progress) if progress.phase == "downloading" => pace(progress),
        _ => progress(event),
    }
}

fn show_progress(progress: &Progress) -> String {
    if progress.phase == "seeding" {
        let (uploaded, up) = (
            Size(progress.uploaded_bytes),
            Size(progress.upload_rate_bytes_per_s),
        );
        let peers = count(progress.peers, "peer");
        return format!("seeding: {uploaded} uploaded, {up}/s up, {peers}");
    }
    let (done, total) = (Size(progress.verified_bytes), Size(progress.wanted_bytes));
    format!("{}: {done} of {total}, {}", progress.phase, pace(progress))
}

/// How fast it goes.
fn pace(progress: &Progress) -> String {
    format!(
        "{}/s down, {}/s up, {}{}",
        Size(progress.download_rate_bytes_per_s),
        Size(progress.upload_rate_bytes_per_s),
        count(progress.peers, "peer"),
        left(progress.time_left_s)
    )
}

/// A number of things, as one says it.
fn count(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

fn show_torrent(torrent: &TorrentEvent) -> Vec<Line> {
    let mut lines = vec![
        Line::field("name", &torrent.name),
        Line::field("kind", torrent.kind),
    ];
    lines.extend(info_hashes(&torrent.info_hash_v1, &torrent.info_hash_v2));
    lines.push(size(torrent.size_bytes));
    lines.push(pieces(torrent.piece_count, torrent.piece_length_bytes));
    lines.push(Line::field(
        "private",
        if torrent.private { "yes" } else { "no" },
    ));
    lines.extend(optional("source", &torrent.source));
    lines.extend(optional("comment", &torrent.comment));
    lines.extend(optional("created by", &torrent.created_by));
    let created = torrent.creation_date_unix_s.map(Timestamp);
    lines.extend(created.map(|date| Line::field("created", date.to_string())));
    for (tier, urls) in (1..).zip(&torrent.trackers) {
        let label = format!("tracker {tier}");
        lines.extend(urls.iter().map(|url| Line::field(&label, url)));
    }
    lines.extend(
        torrent
            .web_seeds
            .iter()
            .map(|url| Line::field("web seed", url)),
    );
    lines.push(Line::field("magnet", &torrent.magnet));
    let shown = torrent.files.iter().filter(|file| file.number.is_some());
    lines.push(Line::field("files", shown.count().to_string()));
    tree(&torrent.files, &mut lines);
    lines.extend(warnings(&torrent.warnings));
    lines
}

fn warnings(warnings: &[String]) -> impl Iterator<Item = Line> + '_ {
    warnings
        .iter()
        .map(|warning| Line::bad("warning: ").then(warning))
}

/// The files as a tree: a line for each directory where it begins, and one for each file with its number and size.
fn tree(files: &[TorrentFile], lines: &mut Vec<Line>) {
    let mut above: Vec<&str> = Vec::new();
    for file in files {
        let mut components: Vec<&str> = file.path.split('/').collect();
        let name = components.pop().unwrap_or_default();
        let common = above
            .iter()
            .zip(&components)
            .take_while(|(a, b)| a == b)
            .count();
        for (depth, directory) in components.iter().enumerate().skip(common) {
            lines.push(Line::plain(format!(
                "{:20}{:2$}{directory}/",
                "",
                "",
                depth * 2
            )));
        }
        let number = file
            .number
            .map_or_else(|| "-".to_owned(), |number| number.to_string());
        let column = format!("{number:>6}  {:>10}  ", Size(file.size_bytes));
        let mut line = Line::label(column).then(format!("{:1$}{name}", "", components.len() * 2));
        if let Some(target) = &file.symlink {
            line = line.then(format!(" -> {target} (a link, not created)"));
        }
        if file.padding {
            line = line.then(" (padding)");
        }
        if file.executable {
            line = line.then(" (executable)");
        }
        lines.push(line);
        above = components;
    }
}

fn show_magnet(magnet: &MagnetEvent) -> Vec<Line> {
    let mut lines = Vec::new();
    lines.extend(optional("name", &magnet.name));
    lines.push(Line::field("kind", magnet.kind));
    lines.extend(info_hashes(&magnet.info_hash_v1, &magnet.info_hash_v2));
    lines.extend(magnet.size_bytes.map(size));
    lines.extend(
        magnet
            .trackers
            .iter()
            .map(|url| Line::field("tracker", url)),
    );
    lines.extend(
        magnet
            .web_seeds
            .iter()
            .map(|url| Line::field("web seed", url)),
    );
    lines.extend(magnet.peers.iter().map(|peer| Line::field("peer", peer)));
    lines.extend(optional("selected", &magnet.selected));
    lines.extend(warnings(&magnet.warnings));
    lines
}

fn show_created(created: &Created) -> Vec<Line> {
    let mut lines = vec![
        Line::field("torrent", &created.path),
        Line::field("kind", created.kind),
    ];
    lines.extend(info_hashes(&created.info_hash_v1, &created.info_hash_v2));
    lines.push(size(created.size_bytes));
    lines.push(pieces(created.piece_count, created.piece_length_bytes));
    lines.push(Line::field("files", created.file_count.to_string()));
    lines.push(Line::field("magnet", &created.magnet));
    lines
}

/// One line that fits a terminal, and another one where something is wrong.
fn show_session_torrent(torrent: &SessionTorrent) -> Vec<Line> {
    let done = match torrent.wanted_bytes {
        0 => "   -".to_owned(),
        wanted => {
            let share = torrent.verified_bytes as f64 / wanted as f64;
            format!("{:>3.0}%", (share * 100.0).floor())
        }
    };
    let rate = |arrow: char, rate: u64| match rate {
        0 => String::new(),
        rate => format!("  {arrow} {}/s", Size(rate)),
    };
    let rates = rate('\u{2193}', torrent.download_rate_bytes_per_s)
        + &rate('\u{2191}', torrent.upload_rate_bytes_per_s);
    let (id, state) = (torrent.id, torrent.state);
    let mut line = format!("{id:>4}  {state:<11}  {done}  {}{rates}", torrent.name);
    let category = torrent.category.iter().map(|name| format!("  ({name})"));
    let tags = torrent.tags.iter().map(|name| format!("  #{name}"));
    line.extend(category.chain(tags));
    if !torrent.rules.is_empty() {
        line += "  ";
        line += &words(&torrent.rules);
    }
    let order = [
        ("sequential", torrent.sequential),
        ("first-last", torrent.first_last),
    ];
    line.extend(
        order
            .iter()
            .filter(|(_, on)| *on)
            .map(|(word, _)| format!("  {word}")),
    );
    if !torrent.priorities.is_empty() {
        line += "  ";
        line += &words(&torrent.priorities);
    }
    let wrong = torrent.message.as_ref();
    let wrong = wrong.map(|message| Line::bad("      ").then(message));
    std::iter::once(Line::plain(line)).chain(wrong).collect()
}

fn show_torrent_tracker(tracker: &TorrentTracker) -> Line {
    let (id, tier, state) = (tracker.torrent, tracker.tier, tracker.state);
    let mut line = format!("{id:>4}  {tier:>2}  {state:<11}  {}", tracker.url);
    let figures = figures(tracker.seeds, tracker.leeches, tracker.completed);
    let next = tracker.next_announce_s;
    let next = next.map(|seconds| format!("announces in {}", Seconds(seconds)));
    for more in [figures, next, tracker.message.clone()].iter().flatten() {
        line += ", ";
        line += more;
    }
    Line::plain(line)
}

fn show_peer(peer: &Peer) -> Line {
    let mut line = format!("{:>4}  {}", peer.torrent, peer.address);
    let flags = [
        (peer.transport.as_str(), true),
        ("encrypted", peer.encrypted),
        ("seed", peer.seed),
        ("chokes us", peer.chokes_us && peer.we_are_interested),
        ("snubs us", peer.snubs_us),
        ("waits", peer.choked && peer.interested),
    ];
    line.extend(
        flags
            .iter()
            .filter(|(_, on)| *on)
            .map(|(word, _)| format!("  {word}")),
    );
    for (arrow, rate) in [
        ('\u{2193}', peer.download_rate_bytes_per_s),
        ('\u{2191}', peer.upload_rate_bytes_per_s),
    ] {
        if rate > 0 {
            line += &format!("  {arrow} {}/s", Size(rate));
        }
    }
    line.extend(peer.client.iter().map(|client| format!("  {client}")));
    Line::plain(line)
}

fn words(rules: &BTreeMap<String, String>) -> String {
    let words: Vec<String> = rules
        .iter()
        .map(|(word, text)| format!("{word}={text}"))
        .collect();
    words.join(" ")
}

/// What it is and what it is for.
fn show_setting(setting: &Setting) -> Vec<Line> {
    let was = match setting.value == setting.default {
        true => String::new(),
        false => format!("  (otherwise {})", setting.default),
    };
    vec![
        Line::plain(format!("{}={}{was}", setting.key, setting.value)),
        Line::plain(format!("      {}", setting.help)),
    ]
}

fn show_rules(rules: &Rules) -> Line {
    let name = if rules.name.is_empty() {
        "session"
    } else {
        &rules.name
    };
    let (torrents, words) = (count(rules.torrents, "torrent"), words(&rules.rules));
    Line::plain(format!("{name}  {torrents}  {words}").trim_end().to_owned())
}

/// What it is, and why it cannot be taken.
fn show_route(route: &Route) -> Vec<Line> {
    let torrents = count(route.torrents, "torrent");
    let mut line = format!("{}  {}  {torrents}", route.name, route.state);
    let said = [
        ("proxy", route.proxy.clone()),
        ("password-file", route.password_file.clone()),
        ("bind", route.bind.clone()),
        ("dns", some(listed(&route.dns))),
        ("listening", some(listed(&route.listening))),
    ];
    for (word, text) in said {
        line.extend(text.map(|text| format!("  {word}={text}")));
    }
    let wrong = route.message.as_ref();
    let wrong = wrong.map(|message| Line::bad("      ").then(message));
    std::iter::once(Line::plain(line)).chain(wrong).collect()
}

fn listed<T: ToString>(all: &[T]) -> String {
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    all.join(",")
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// A line for the list, and one for each line of it that makes no sense.
fn show_address_list(list: &AddressList) -> Vec<Line> {
    let ranges = usize::try_from(list.ranges).unwrap_or(usize::MAX);
    let mut line = format!("{}  {}", list.path, count(ranges, "range"));
    for (number, what) in [
        (list.let_pass, "let pass"),
        (list.bad, "bad"),
        (list.left_out, "left out"),
    ] {
        if number > 0 {
            line += &format!("  {number} {what}");
        }
    }
    let mut lines = vec![Line::plain(line)];
    let wrong = list.message.iter();
    lines.extend(wrong.map(|message| Line::bad("      ").then(message)));
    let bad = list.first_bad.iter();
    lines.extend(bad.map(|bad| Line::plain(format!("      line {}: {}", bad.line, bad.why))));
    lines
}

fn show_address(address: &Address) -> Line {
    match (&address.path, address.line, address.first, address.last) {
        (Some(path), Some(line), Some(first), Some(last)) => {
            let what = format!("line {line} of {path} forbids {first}-{last}");
            Line::bad("forbidden: ").then(format!("{}: {what}", address.address))
        }
        _ => Line::good("allowed: ").then(address.address.to_string()),
    }
}

fn show_span(span: &Span) -> Line {
    let rate = |word: &str, rate: &Option<String>| {
        let rate = rate.as_ref();
        rate.map_or_else(String::new, |rate| format!(" {word}={rate}"))
    };
    let holds = match span.holds {
        Holds::Normal => "the rates of the session".to_owned(),
        Holds::Alternative => "its alternative rates".to_owned(),
        Holds::Pause => "nothing moves".to_owned(),
        Holds::Rates => format!("rates:{}{}", rate("down", &span.down), rate("up", &span.up)),
    };
    Line::plain(format!("{:>4}  {:<24}  {holds}", span.number, span.times))
}

fn show_schedule(schedule: &Schedule) -> Line {
    let rate = |rate: Option<u64>| {
        rate.map_or_else(|| "all".to_owned(), |rate| format!("{}/s", Size(rate)))
    };
    let (down, up) = (
        rate(schedule.down_bytes_per_s),
        rate(schedule.up_bytes_per_s),
    );
    let what = match schedule.holds {
        Holds::Pause => "nothing moves".to_owned(),
        Holds::Normal => format!("normal rates: {down} down, {up} up"),
        Holds::Alternative => format!("alternative rates: {down} down, {up} up"),
        Holds::Rates => format!("rates of their own: {down} down, {up} up"),
    };
    let until = match (&schedule.until, schedule.now) {
        (Some(until), _) => format!(", until {until}"),
        (None, Now::Auto) => String::new(),
        (None, _) => ", until told otherwise".to_owned(),
    };
    Line::label("now ").then(format!("{what}{until}"))
}

/// A line for the folder, and one for each of its files that was refused.
fn show_watch(watch: &Watch) -> Vec<Line> {
    let mut line = watch.path.clone();
    if watch.recursive {
        line += "  and below";
    }
    line += match watch.then {
        Afterwards::Keep => "",
        Afterwards::Rename => "  then rename",
        Afterwards::Delete => "  then delete",
    };
    line.extend(
        watch
            .directory
            .iter()
            .map(|folder| format!("  into {folder}")),
    );
    let category = watch.category.iter().map(|name| format!("  ({name})"));
    let tags = watch.tags.iter().map(|name| format!("  #{name}"));
    line.extend(category.chain(tags));
    if !watch.rules.is_empty() {
        line += "  ";
        line += &words(&watch.rules);
    }
    line += &format!("  {} added", watch.added);
    let message = watch
        .message
        .iter()
        .map(|message| Line::bad("      ").then(message));
    let refused = watch.refused.iter();
    let refused = refused
        .map(|file| Line::bad("      refused: ").then(format!("{}: {}", file.path, file.why)));
    std::iter::once(Line::plain(line))
        .chain(message)
        .chain(refused)
        .collect()
}

/// Its arguments as one sees where each begins.
fn show_hook(hook: &Hook) -> Line {
    let words: Vec<String> = hook
        .program
        .iter()
        .map(|word| format!("{word:?}"))
        .collect();
    Line::plain(format!("{:<8}  {}", hook.on.name(), words.join(" ")))
}

fn show_started(started: &Started) -> Line {
    let have = if started.verified_bytes == 0 {
        String::new()
    } else {
        format!(
            ", {} of it there already ({} pieces known from before)",
            Size(started.verified_bytes),
            started.resumed_pieces
        )
    };
    Line::plain(format!(
        "{}: {} in {}{have}",
        started.name,
        Size(started.wanted_bytes),
        started.directory
    ))
}

fn show_web_seed(seed: &WebSeed) -> Line {
    let what = seed.message.as_deref().unwrap_or("works");
    Line::label("web seed ")
        .then(&seed.host)
        .then(": ")
        .then(what)
}

fn show_tracker(tracker: &Tracker) -> Line {
    let line = Line::label("tracker ").then(&tracker.host).then(": ");
    let line = match (&tracker.message, tracker.working) {
        (Some(message), true) => line.then(format!("works, and says: {message}")),
        (Some(message), false) => line.then(message),
        (None, true) => line.then("works"),
        (None, false) => line.then("no answer yet"),
    };
    match figures(tracker.seeds, tracker.leeches, tracker.completed) {
        Some(figures) => line.then(format!(", {figures}")),
        None => line,
    }
}

fn show_scrape(scrape: &Scrape) -> Line {
    let line = Line::field("scrape", format!("{}: ", scrape.tracker));
    if let Some(error) = &scrape.error {
        return line.then(error);
    }
    let of = |swarm: &SwarmFigures| {
        let figures = figures(swarm.seeds, swarm.leeches, swarm.completed);
        figures.unwrap_or_else(|| "unknown to the tracker".to_owned())
    };
    match &scrape.swarms[..] {
        [swarm] => line.then(of(swarm)),
        swarms => {
            let named = swarms
                .iter()
                .map(|swarm| format!("{}: {}", swarm.kind, of(swarm)));
            line.then(named.collect::<Vec<_>>().join("; "))
        }
    }
}

/// What is known of a swarm, if anything is.
fn figures(seeds: Option<u32>, leeches: Option<u32>, completed: Option<u32>) -> Option<String> {
    let seeds = seeds.map(|number| match number {
        1 => "1 seed".to_owned(),
        _ => format!("{number} seeds"),
    });
    let leeches = leeches.map(|number| match number {
        1 => "1 leech".to_owned(),
        _ => format!("{number} leeches"),
    });
    let completed = completed.map(|number| format!("{number} completed"));
    let known: Vec<String> = [seeds, leeches, completed].into_iter().flatten().collect();
    (!known.is_empty()).then(|| known.join(", "))
}

fn show_complete(complete: &Complete) -> Line {
    Line::good("complete: ").then(format!(
        "{}: {} verified, {} downloaded in {:.1} s",
        complete.path,
        Size(complete.wanted_bytes),
        Size(complete.downloaded_bytes),
        complete.time_s
    ))
}

fn show_stopped(stopped: &Stopped) -> Line {
    Line::plain(format!(
        "stopped: {} downloaded, {} uploaded",
        Size(stopped.downloaded_bytes),
        Size(stopped.uploaded_bytes)
    ))
}

fn show_wrong_file(file: &FileEvent) -> Line {
    let what = match (file.state, file.found_bytes) {
        ("missing", _) => "missing".to_owned(),
        (state @ ("short" | "long"), Some(found)) => {
            format!("too {state}: {found} bytes instead of {}", file.size_bytes)
        }
        (state, _) => state.to_owned(),
    };
    let line = Line::bad(format!("{what}: ")).then(&file.path);
    if file.state == "missing" || file.wrong_pieces.is_empty() {
        return line;
    }
    line.then(format!(" (pieces {})", runs(&file.wrong_pieces)))
}

/// Runs of numbers, the first of them.
fn runs(runs: &[[u32; 2]]) -> String {
    let shown = runs.iter().take(MAX_RUNS_SHOWN);
    let mut shown: Vec<String> = shown.map(|&[first, last]| run(first, last)).collect();
    shown.extend(more_runs(runs.len()));
    shown.join(", ")
}

fn run(first: u32, last: u32) -> String {
    match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    }
}

/// Says that there are more than are shown.
fn more_runs(count: usize) -> Option<String> {
    let more = count.checked_sub(MAX_RUNS_SHOWN).filter(|&more| more > 0)?;
    Some(format!("and {more} more runs"))
}

fn show_checked(checked: &Checked) -> Line {
    let total = checked.right_pieces + checked.wrong_pieces;
    if checked.right {
        let text = format!(
            "{}: all {total} pieces of {}",
            checked.name,
            count(checked.right_files, "file")
        );
        return Line::good("right: ").then(text);
    }
    Line::bad("wrong: ").then(format!(
        "{}: {} of {total} pieces, {} of {} files",
        checked.name,
        checked.wrong_pieces,
        checked.wrong_files,
        checked.right_files + checked.wrong_files
    ))
}

fn info_hashes(v1: &Option<String>, v2: &Option<String>) -> impl Iterator<Item = Line> {
    [optional("info hash v1", v1), optional("info hash v2", v2)]
        .into_iter()
        .flatten()
}

fn optional(label: &str, value: &Option<String>) -> Option<Line> {
    value.as_ref().map(|value| Line::field(label, value))
}

fn size(bytes: u64) -> Line {
    Line::field("size", format!("{} ({bytes} bytes)", Size(bytes)))
}

fn pieces(count: u32, length_bytes: u32) -> Line {
    Line::field(
        "pieces",
        format!("{count} of {}", PieceLength(length_bytes)),
    )
}
