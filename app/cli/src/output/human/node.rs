//! What is shown of a node's session and of its torrents.

use shoal_node::message::{
    HeldRule, Holds, ShownFile, ShownHash, ShownPieces, ShownSession, ShownTorrent,
};

use super::super::text::Line;
use super::{MAX_RUNS_SHOWN, count, info_hashes, more_runs, optional, run, runs, size, words};
use crate::units::{PieceLength, Seconds, Size, Timestamp};

/// The session as a whole.
pub(super) fn session(session: &ShownSession) -> Vec<Line> {
    let listening: Vec<String> = session.listening.iter().map(ToString::to_string).collect();
    let since = Timestamp(session.started_unix_s);
    let mut lines = vec![
        Line::field("node", format!("shoal {}, since {since}", session.version)),
        Line::field("listening", listening.join(", ")),
    ];
    lines.extend(said("from outside", session.mapped));
    let moves = |rate: u64, limit: Option<u64>, ever: u64, started: u64| {
        let limit = limit.map_or_else(String::new, |limit| format!(" of {}/s", Size(limit)));
        let (rate, ever, started) = (Size(rate), Size(ever), Size(started));
        format!("{rate}/s{limit}; {ever} in all, {started} since the node runs")
    };
    lines.push(Line::field(
        "download",
        moves(
            session.download_rate_bytes_per_s,
            session.download_limit_bytes_per_s,
            session.downloaded_bytes,
            session.started_downloaded_bytes,
        ),
    ));
    lines.push(Line::field(
        "upload",
        moves(
            session.upload_rate_bytes_per_s,
            session.upload_limit_bytes_per_s,
            session.uploaded_bytes,
            session.started_uploaded_bytes,
        ),
    ));
    let hour = match session.holds {
        Holds::Normal => None,
        Holds::Alternative => Some("the alternative rates hold"),
        Holds::Rates => Some("rates of the schedule hold"),
        Holds::Pause => Some("nothing moves, as the schedule says"),
    };
    lines.extend(said("at this hour", hour));
    lines.extend(ratio(session.ratio_permille));
    lines.extend(wasted(session.wasted_bytes, 0));
    lines.push(Line::field("peers", peers(session.peers, session.seeds)));
    let states = session.states.iter();
    let states = states.map(|state| format!(", {} {}", state.count, state.state.name()));
    let states: String = states.collect();
    lines.push(Line::field(
        "torrents",
        format!("{}{states}", session.torrents),
    ));
    lines
}

fn peers(peers: usize, seeds: usize) -> String {
    format!("{peers} connected, {} among them", count(seeds, "seed"))
}

fn ratio(permille: Option<u64>) -> Option<Line> {
    let permille = permille?;
    Some(Line::field("ratio", thousandths(permille)))
}

/// With two digits behind the point, which is as exact as anybody wants it.
fn thousandths(permille: u64) -> String {
    format!("{}.{:02}", permille / 1_000, permille % 1_000 / 10)
}

fn wasted(bytes: u64, failed_pieces: u64) -> Option<Line> {
    let failed = match failed_pieces {
        0 => String::new(),
        failed => format!(", {failed} pieces failed their check"),
    };
    (bytes > 0 || failed_pieces > 0)
        .then(|| Line::field("wasted", format!("{}{failed}", Size(bytes))))
}

/// Where something is known, a line for it.
fn said(label: &str, value: Option<impl ToString>) -> Option<Line> {
    Some(Line::field(label, value?.to_string()))
}

/// All of a torrent.
pub(super) fn torrent(torrent: &ShownTorrent) -> Vec<Line> {
    let mut lines = vec![
        Line::field("torrent", format!("{}  {}", torrent.id, torrent.name)),
        Line::field("state", state(torrent)),
    ];
    let wrong = torrent.message.as_ref();
    lines.extend(wrong.map(|message| Line::field("", "").then(message)));
    what_it_is(torrent, &mut lines);
    how_far(torrent, &mut lines);
    swarm(torrent, &mut lines);
    when_and_where(torrent, &mut lines);
    told(torrent, &mut lines);
    lines
}

fn state(torrent: &ShownTorrent) -> String {
    let place = torrent
        .position
        .map(|place| format!(", {place} in the queue"));
    let forced = torrent.forced.then_some(", whatever the queue says");
    let name = torrent.state.name();
    format!(
        "{name}{}{}",
        place.unwrap_or_default(),
        forced.unwrap_or_default()
    )
}

fn what_it_is(torrent: &ShownTorrent, lines: &mut Vec<Line>) {
    lines.extend(info_hashes(&torrent.info_hash_v1, &torrent.info_hash_v2));
    lines.push(Line::field("magnet", &torrent.magnet));
    let private = torrent
        .private
        .map(|private| if private { "yes" } else { "no" });
    lines.extend(said("private", private));
    lines.extend(optional("comment", &torrent.comment));
    lines.extend(optional("source", &torrent.source));
    lines.extend(optional("created by", &torrent.created_by));
    let created = torrent.created_unix_s.map(Timestamp);
    lines.extend(said("created", created));
}

fn how_far(torrent: &ShownTorrent, lines: &mut Vec<Line>) {
    lines.extend(torrent.size_bytes.map(size));
    if let (Some(pieces), Some(length)) = (torrent.piece_count, torrent.piece_length_bytes) {
        let there = torrent.verified_pieces;
        let there = there.map_or_else(String::new, |there| format!(", {there} there"));
        let of = PieceLength(length);
        lines.push(Line::field("pieces", format!("{pieces} of {of}{there}")));
    }
    lines.extend(said("files", torrent.file_count));
    if torrent.wanted_bytes > 0 {
        let (done, wanted) = (torrent.verified_bytes, torrent.wanted_bytes);
        let share = u128::from(done) * 100 / u128::from(wanted);
        let (done, wanted) = (Size(done), Size(wanted));
        let left = match torrent.left_bytes {
            0 => String::new(),
            left => format!(", {} left", Size(left)),
        };
        let time = torrent
            .time_left_s
            .map(|time| format!(", {}", Seconds(time)));
        let time = time.unwrap_or_default();
        lines.push(Line::field(
            "progress",
            format!("{share}%: {done} of {wanted}{left}{time}"),
        ));
    }
    let moves = |rate: u64, average: Option<u64>, ever: u64, started: u64| {
        let average = average.map(|rate| format!(", {}/s on average", Size(rate)));
        let (rate, average) = (Size(rate), average.unwrap_or_default());
        let (ever, started) = (Size(ever), Size(started));
        format!("{ever}, {started} since the node runs; {rate}/s{average}")
    };
    lines.push(Line::field(
        "downloaded",
        moves(
            torrent.download_rate_bytes_per_s,
            torrent.average_download_bytes_per_s,
            torrent.downloaded_bytes,
            torrent.started_downloaded_bytes,
        ),
    ));
    lines.push(Line::field(
        "uploaded",
        moves(
            torrent.upload_rate_bytes_per_s,
            torrent.average_upload_bytes_per_s,
            torrent.uploaded_bytes,
            torrent.started_uploaded_bytes,
        ),
    ));
    lines.extend(ratio(torrent.ratio_permille));
    lines.extend(wasted(torrent.wasted_bytes, torrent.failed_pieces));
}

fn swarm(torrent: &ShownTorrent, lines: &mut Vec<Line>) {
    let most = torrent
        .max_peers
        .map(|most| format!(", {most} at the most"));
    let mut all = peers(torrent.peers, torrent.seeds) + &most.unwrap_or_default();
    if let Some(known) = super::figures(torrent.known_seeds, torrent.known_leeches, None) {
        all += &format!("; trackers know {known}");
    }
    lines.push(Line::field("peers", all));
    let copies = torrent.availability_permille;
    lines.extend(said("copies", copies.map(thousandths)));
    if let (Some(trackers @ 1..), Some(working)) = (torrent.trackers, torrent.working_trackers) {
        let next = torrent.next_announce_s;
        let next = next.map_or_else(String::new, |next| {
            format!(", next announce in {}", Seconds(next))
        });
        let line = Line::field("trackers", format!("{trackers}, {working} working{next}"));
        let message = torrent.tracker_message.iter();
        lines.push(message.fold(line, |line, message| line.then("; ").then(message)));
    }
    let seeds = torrent.web_seeds.filter(|&seeds| seeds > 0);
    lines.extend(said("web seeds", seeds));
}

fn when_and_where(torrent: &ShownTorrent, lines: &mut Vec<Line>) {
    let added = Timestamp(torrent.added_unix_s).to_string();
    lines.push(Line::field("added", added));
    let completed = torrent.completed_unix_s.map(Timestamp);
    lines.extend(said("completed", completed));
    let runs = torrent.run_s.map(Seconds);
    lines.extend(said("running for", runs));
    if torrent.seeding_s > 0 {
        let (seeding, idle) = (Seconds(torrent.seeding_s), Seconds(torrent.idle_s));
        let seeding = format!("{seeding}, {idle} since a byte was last sent");
        lines.push(Line::field("seeded for", seeding));
    }
    lines.push(Line::field("folder", &torrent.directory));
    lines.extend(optional("then in", &torrent.home));
    lines.extend(optional("moving to", &torrent.moving_to));
    lines.extend(optional("content", &torrent.content_path));
}

fn told(torrent: &ShownTorrent, lines: &mut Vec<Line>) {
    lines.extend(optional("category", &torrent.category));
    if !torrent.tags.is_empty() {
        let tags: Vec<&str> = torrent.tags.iter().map(String::as_str).collect();
        lines.push(Line::field("tags", tags.join(", ")));
    }
    let options = [
        (torrent.sequential, "in order"),
        (torrent.first_last, "first and last pieces first"),
        (torrent.super_seed, "super-seeding"),
        (torrent.seed_only, "only what is there is served"),
        (torrent.preallocate, "room reserved first"),
    ];
    let options = options.iter().filter(|(is_on, _)| *is_on);
    let options: Vec<&str> = options.map(|(_, option)| *option).collect();
    if !options.is_empty() {
        lines.push(Line::field("options", options.join(", ")));
    }
    if !torrent.rules.is_empty() {
        lines.push(Line::field("told", words(&torrent.rules)));
    }
    lines.extend(torrent.held.iter().map(holds));
}

fn holds(held: &HeldRule) -> Line {
    let from = match (&held.from, &held.name) {
        (Some(from), Some(name)) => format!("  ({from} {name})"),
        (Some(from), None) => format!("  ({from})"),
        (None, _) => String::new(),
    };
    Line::field("holds", format!("{}={}{from}", held.rule, held.value))
}

/// One line for a file.
pub(super) fn file(file: &ShownFile) -> Line {
    let done = match (file.verified_bytes, file.size_bytes) {
        (None, _) => "-".to_owned(),
        (Some(_), 0) => "100%".to_owned(),
        (Some(done), size) => format!("{}%", u128::from(done) * 100 / u128::from(size)),
    };
    let priority = file.priority.name();
    let pieces = file
        .pieces
        .map_or_else(String::new, |[first, last]| run(first, last));
    let (number, size) = (file.number, Size(file.size_bytes));
    let column = format!("{number:>6}  {size:>10}  {done:>4}  {priority:<7}  {pieces:>11}  ");
    Line::label(column).then(&file.path)
}

/// How far the pieces are, in runs.
pub(super) fn pieces(pieces: &ShownPieces) -> Vec<Line> {
    let of = PieceLength(pieces.piece_length_bytes);
    let mut lines = vec![Line::field(
        "pieces",
        format!("{} of {of}", pieces.piece_count),
    )];
    let listed = |label: &str, which: &Option<Vec<[u32; 2]>>| {
        let shown = which.as_deref().map(|which| match which {
            [] => "none".to_owned(),
            which => runs(which),
        });
        said(label, shown)
    };
    lines.extend(listed("there", &pieces.verified));
    lines.extend(listed("under way", &pieces.in_progress));
    let Some(availability) = &pieces.availability else {
        lines.push(Line::plain(
            "the torrent does not run, so that no more is known",
        ));
        return lines;
    };
    let shown = availability.iter().take(MAX_RUNS_SHOWN);
    let peers = |&[first, last, peers]: &[u32; 3]| {
        let peers = count(usize::try_from(peers).unwrap_or(usize::MAX), "peer");
        format!("{}: {peers}", run(first, last))
    };
    let mut shown: Vec<String> = shown.map(peers).collect();
    shown.extend(more_runs(availability.len()));
    lines.push(Line::field("had by", shown.join(", ")));
    lines
}

/// What a piece hashes to.
pub(super) fn hash(hash: &ShownHash) -> Line {
    let hashes = hash.sha1.iter().chain(&hash.root);
    let line = Line::label(format!("{:>8}", hash.piece));
    hashes.fold(line, |line, hash| line.then("  ").then(hash))
}
