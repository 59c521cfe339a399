//! Whether the head of a reply promises what was asked for.
//!
//! Invariant: a body is taken only where its head says that it is, or begins with, the bytes that were asked for, as they are.

use super::plan::Part;
use core::time::Duration;

/// An origin that ignores ranges sends a file from its beginning. So much of it is read and forgotten, to get at what is wanted:
/// less than what a new connection to another place costs.
const MAX_SKIP_BYTES: u64 = 256 * 1024;

/// What bears on a decision of the head of a reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplyHead {
    /// The status code.
    pub status: u16,
    /// `Content-Range`, as it is.
    pub content_range: Option<String>,
    /// `Content-Length`.
    pub content_length: Option<u64>,
    /// There is a `Content-Encoding`, though none was asked for.
    pub encoded: bool,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
}

/// Why a fetch came to nothing, or to less than was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The origin could not be reached, or the connection broke.
    Unreachable,
    /// Nothing came for too long.
    Stalled,
    /// It answers that it cannot serve us now: a status of 408, 429 or 5xx.
    Busy {
        /// For how long, if it says.
        retry_after: Option<Duration>,
    },
    /// It does not have the file, or another one under its name, or does not let us have it.
    Missing(&'static str),
    /// It does not serve ranges.
    NoRanges,
    /// It does not do what HTTP promises.
    Misbehaved(&'static str),
    /// It may not be asked at all: the address policy forbids it, or no URL can name it.
    Forbidden,
}

/// How many bytes of the body are to be read and forgotten before those of `part` come.
///
/// # Errors
/// Why the body is not what was asked for.
pub fn judge(part: &Part, head: &ReplyHead) -> Result<u64, Failure> {
    match (head.status, part) {
        (200 | 206, _) if head.encoded => {
            Err(Failure::Misbehaved("it compresses although it may not"))
        }
        (200, Part::Piece { .. }) => match head.content_length {
            Some(length) if length != part.length() => Err(Failure::Misbehaved(
                "it sends another length than was asked for",
            )),
            _ => Ok(0),
        },
        (206, Part::File { range, length, .. }) => {
            partial(head, range.start, range.end, *length).map(|()| 0)
        }
        (200, Part::File { range, length, .. }) => match head.content_length {
            Some(other) if other != *length => {
                Err(Failure::Missing("it has a file of another length"))
            }
            _ if range.start <= MAX_SKIP_BYTES => Ok(range.start),
            _ => Err(Failure::NoRanges),
        },
        (408 | 429 | 500..=599, _) => Err(Failure::Busy {
            retry_after: head.retry_after,
        }),
        (416, Part::File { .. }) => Err(Failure::Missing("it has a file of another length")),
        (404 | 410, Part::File { .. }) => Err(Failure::Missing("it does not have the file")),
        (400..=499, Part::File { .. }) => Err(Failure::Missing("it does not give us the file")),
        _ => Err(Failure::Misbehaved("it answers with an unexpected status")),
    }
}

fn partial(head: &ReplyHead, start: u64, end: u64, length: u64) -> Result<(), Failure> {
    let range = head.content_range.as_deref().and_then(content_range);
    let Some((first, last, total)) = range else {
        return Err(Failure::Misbehaved("it does not say which range it sends"));
    };
    if total.is_some_and(|total| total != length) {
        return Err(Failure::Missing("it has a file of another length"));
    }
    let claimed = head.content_length.is_none_or(|sent| sent == end - start);
    if (first, last.checked_add(1)) != (start, Some(end)) || !claimed {
        return Err(Failure::Misbehaved(
            "it sends another range than was asked for",
        ));
    }
    Ok(())
}

/// First and last byte, and the length of the whole where it is said (RFC 9110 section 14.4).
#[must_use]
pub fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (unit, rest) = text.trim().split_once(' ')?;
    let (range, total) = rest.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok())?
    };
    let total = match total.trim() {
        "*" => None,
        total => Some(number(total)?),
    };
    let (first, last) = (number(first.trim())?, number(last.trim())?);
    let sound = unit.eq_ignore_ascii_case("bytes") && first <= last;
    (sound && total.is_none_or(|total| last < total)).then_some((first, last, total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_metainfo::{FileIndex, PieceIndex};

    fn head(status: u16) -> ReplyHead {
        ReplyHead {
            status,
            ..ReplyHead::default()
        }
    }

    fn part() -> Part {
        Part::File {
            file: FileIndex(0),
            range: 1_000_000..1_016_384,
            length: 2_000_000,
        }
    }

    fn ranged(range: &str) -> Result<u64, Failure> {
        let content_range = Some(range.to_owned());
        judge(
            &part(),
            &ReplyHead {
                content_range,
                ..head(206)
            },
        )
    }

    #[test]
    fn only_the_range_that_was_asked_for_is_taken() {
        assert_eq!(ranged("bytes 1000000-1016383/2000000"), Ok(0));
        assert_eq!(ranged("Bytes 1000000-1016383/*"), Ok(0));
        for wrong in [
            "bytes 0-1016383/2000000",
            "bytes 1000000-1016384/2000000",
            "bytes 1000000-1016382/2000000",
            "bytes 1000000-1016383/1000",
            "bytes 1016383-1000000/2000000",
            "bytes */2000000",
            "items 1000000-1016383/2000000",
            "bytes +1000000-1016383/2000000",
            "bytes 99999999999999999999-1/2",
            "",
        ] {
            assert!(
                matches!(ranged(wrong), Err(Failure::Misbehaved(_))),
                "{wrong}"
            );
        }
        let longer = ranged("bytes 1000000-1016383/2000001");
        assert!(matches!(longer, Err(Failure::Missing(_))));
        assert!(matches!(
            judge(&part(), &head(206)),
            Err(Failure::Misbehaved(_))
        ));
        let short = ReplyHead {
            content_range: Some("bytes 1000000-1016383/2000000".to_owned()),
            content_length: Some(5),
            ..head(206)
        };
        assert!(matches!(
            judge(&part(), &short),
            Err(Failure::Misbehaved(_))
        ));
    }

    #[test]
    fn a_whole_file_in_place_of_a_range_is_taken_near_its_beginning_only() {
        assert_eq!(judge(&part(), &head(200)), Err(Failure::NoRanges));
        let early = Part::File {
            file: FileIndex(0),
            range: 1_000..2_000,
            length: 2_000_000,
        };
        assert_eq!(judge(&early, &head(200)), Ok(1_000));
        let content_length = Some(7);
        let other = ReplyHead {
            content_length,
            ..head(200)
        };
        assert!(matches!(judge(&early, &other), Err(Failure::Missing(_))));
        let encoded = true;
        for status in [200, 206] {
            let zipped = ReplyHead {
                encoded,
                ..head(status)
            };
            let judged = judge(&early, &zipped);
            assert!(matches!(judged, Err(Failure::Misbehaved(_))));
        }
    }

    #[test]
    fn what_passes_is_told_from_what_stays() {
        for status in [408, 429, 500, 502, 503, 504] {
            let retry_after = Some(Duration::from_secs(7));
            let busy = ReplyHead {
                retry_after,
                ..head(status)
            };
            assert_eq!(judge(&part(), &busy), Err(Failure::Busy { retry_after }));
        }
        for status in [400, 401, 403, 404, 410, 416, 451] {
            let judged = judge(&part(), &head(status));
            assert!(matches!(judged, Err(Failure::Missing(_))), "{status}");
        }
        for status in [100, 204, 304, 600] {
            let judged = judge(&part(), &head(status));
            assert!(matches!(judged, Err(Failure::Misbehaved(_))), "{status}");
        }
    }

    #[test]
    fn a_script_sends_what_was_asked_for_with_status_200() {
        let part = Part::Piece {
            piece: PieceIndex(3),
            range: 16_384..20_000,
            whole: false,
        };
        assert_eq!(judge(&part, &head(200)), Ok(0));
        let content_length = Some(20_000);
        let whole = ReplyHead {
            content_length,
            ..head(200)
        };
        assert!(matches!(judge(&part, &whole), Err(Failure::Misbehaved(_))));
        // A script that does not know the torrent today may know it tomorrow.
        assert!(matches!(
            judge(&part, &head(404)),
            Err(Failure::Misbehaved(_))
        ));
        assert!(matches!(
            judge(&part, &head(503)),
            Err(Failure::Busy { .. })
        ));
    }
}
