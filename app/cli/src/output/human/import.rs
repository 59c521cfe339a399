//! What an import says to people, as lines.

use super::count;
use crate::output::event::{ImportBegun, ImportDone, ImportTorrent};
use crate::output::text::Line;

pub(super) fn begun(begun: &ImportBegun) -> Line {
    let what = match begun.dry_run {
        true => "nothing is done, but would be: ",
        false => "",
    };
    let torrents = count(begun.torrents, "torrent");
    Line::plain(format!(
        "{what}{torrents} of {} in {}",
        begun.client, begun.folder
    ))
}

/// What came of it, and below that what a person should know.
pub(super) fn torrent(torrent: &ImportTorrent) -> Vec<Line> {
    let what = match torrent.outcome {
        "imported" | "importable" => Line::good(format!("{:<11}", torrent.outcome)),
        "refused" => Line::bad(format!("{:<11}", torrent.outcome)),
        outcome => Line::plain(format!("{outcome:<11}")),
    };
    let is_taken = matches!(torrent.outcome, "imported" | "importable");
    let known = match torrent.pieces {
        pieces if pieces > 0 && is_taken => {
            format!(", {} of {pieces} pieces known", torrent.verified_pieces)
        }
        _ => String::new(),
    };
    let mut lines = vec![what.then(&torrent.name).then(known)];
    let below = |text: String| Line::plain("      ").then(text);
    let wrong = torrent.message.as_ref();
    lines.extend(wrong.map(|message| Line::bad("      ").then(message)));
    if torrent.suspect_pieces > 0 {
        let pieces = count(torrent.suspect_pieces as usize, "piece");
        lines.push(below(format!("{pieces} to be verified first")));
    }
    if torrent.lost_pieces > 0 {
        let pieces = count(torrent.lost_pieces as usize, "piece");
        lines.push(below(format!("{pieces} gone, to be fetched again")));
    }
    if torrent.changed_files + torrent.missing_files > 0 {
        let (changed, missing) = (torrent.changed_files, torrent.missing_files);
        let named = torrent.files.join(", ");
        lines.push(below(format!(
            "{changed} changed and {missing} missing files: {named}"
        )));
    }
    lines.extend(torrent.notes.iter().map(|note| below(note.clone())));
    lines
}

pub(super) fn done(done: &ImportDone) -> Line {
    let mut text = format!("{} imported", done.imported);
    for (number, what) in [
        (done.already, "here before"),
        (done.refused, "refused"),
        (done.left_out, "left out"),
    ] {
        if number > 0 {
            text += &format!(", {number} {what}");
        }
    }
    Line::plain(text)
}
