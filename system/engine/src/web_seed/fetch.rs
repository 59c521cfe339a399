//! One fetch: a request for each part, and their bytes into blocks.
//!
//! Invariant: a block is handed on when all its bytes have come, in the order of the fetch; nothing is read that the rate limits
//! have not let pass, but for one read's worth.

use super::{Place, Surroundings, Version};
use crate::allowance::Allowance;
use shoal_metainfo::{Block, FileIndex};
use shoal_storage::BlockBuffer;
use shoal_swarm::web_session::{Failure, Fetch, FetchId, Form, PATIENCE, Part, ReplyHead, judge};
use shoal_transport::{
    Direction, HttpError, HttpLimits, HttpStream, Protocol, RangeRequest, ResolveError,
};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Mirrors redirect once, some through another name; more is a loop.
const MAX_REDIRECTS: usize = 5;

/// How much of a script's refusal is read for the seconds that it says (BEP 17).
const MAX_REFUSAL_BYTES: usize = 64;

/// The end of a body that is through is there at once, or the connection is not worth keeping.
const END_TIMEOUT: Duration = Duration::from_millis(200);

/// What is said of a file of which the origin has another version than before.
pub(crate) const CHANGED: &str = "it changed while it was being downloaded";

/// What comes of a fetch.
pub(super) enum Progress {
    /// The bytes of its next block.
    Block(Block, BlockBuffer),
    /// It is over: why early, if it is.
    Ended(Option<Failed>),
}

/// Why a fetch ended early.
pub(super) struct Failed {
    pub(super) failure: Failure,
    pub(super) file: Option<FileIndex>,
    /// For people: without path and query, which may hold a secret.
    pub(super) words: String,
}

/// Who fetches.
pub(super) struct Job {
    pub(super) place: Place,
    pub(super) around: Surroundings,
    pub(super) sender: mpsc::Sender<(FetchId, Progress)>,
}

/// The blocks of a fetch as they fill.
struct Blocks {
    id: FetchId,
    left: VecDeque<Block>,
    filling: Option<BlockBuffer>,
    filled: usize,
    sender: mpsc::Sender<(FetchId, Progress)>,
}

impl Job {
    pub(super) async fn run(self, fetch: Fetch) {
        let mut blocks = Blocks {
            id: fetch.id,
            left: fetch.runs.iter().flat_map(|run| run.blocks()).collect(),
            filling: None,
            filled: 0,
            sender: self.sender.clone(),
        };
        let mut failed = None;
        for part in &fetch.parts {
            let done = match part {
                Part::Zeros { length } => self.zeros(*length, &mut blocks).await,
                _ => Box::pin(self.part(part, &mut blocks)).await,
            };
            if let Err((failure, words)) = done {
                let file = part.file();
                failed = Some(Failed {
                    failure,
                    file,
                    words,
                });
                break;
            }
        }
        // Whoever does not listen any more needs no answer.
        drop(self.sender.send((fetch.id, Progress::Ended(failed))).await);
    }

    async fn zeros(&self, length: u64, blocks: &mut Blocks) -> Result<(), (Failure, String)> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut left = length;
        while left > 0 {
            let count = usize::try_from(left).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
            self.fill(&ZEROS[..count], blocks).await;
            left -= count as u64;
        }
        Ok(())
    }

    /// Requests a part and reads it.
    async fn part(&self, part: &Part, blocks: &mut Blocks) -> Result<(), (Failure, String)> {
        let metainfo = &self.around.metainfo;
        let Some(url) = self.place.url(metainfo, part) else {
            return Err((Failure::Forbidden, "no URL can name it".to_owned()));
        };
        let range = match part {
            Part::File { range, .. } => Some(range.clone()),
            _ => None,
        };
        let request = RangeRequest {
            url,
            range,
            if_range: self.place.version().and_then(Version::validator),
        };
        let limits = HttpLimits {
            protocol: Protocol::Http,
            max_body_bytes: 0,
            timeout: PATIENCE,
            max_redirects: MAX_REDIRECTS,
            family: None,
        };
        let http = self.around.transport.http();
        let stream = http.open(request, self.place.origin, limits).await;
        let mut stream = stream.map_err(|error| (kind(&error), error.to_string()))?;
        let mut head = ReplyHead {
            status: stream.status(),
            content_range: stream.header("content-range"),
            content_length: stream.content_length(),
            encoded: stream.is_encoded(),
            retry_after: stream.retry_after(),
        };
        if self.place.form() == Form::Script && head.status == 503 {
            head.retry_after = refusal(&mut stream).await.or(head.retry_after);
        }
        let (etag, modified) = (stream.header("etag"), stream.header("last-modified"));
        let other = |version: &Version| {
            // All of the file in place of a range: the version that the range is of is not there any more.
            let refused = head.status == 200 && version.validator().is_some();
            refused || version.differs(etag.as_ref(), modified.as_ref())
        };
        if matches!(head.status, 200 | 206) && self.place.version().is_some_and(other) {
            return Err((Failure::Missing(CHANGED), CHANGED.to_owned()));
        }
        let skip = judge(part, &head).map_err(|failure| {
            let words = words(&failure, head.status);
            (failure, words)
        })?;
        self.body(stream, skip, part.length(), blocks).await
    }

    /// Reads so many bytes, and forgets those before them.
    async fn body(
        &self,
        mut stream: HttpStream,
        mut skip: u64,
        length: u64,
        blocks: &mut Blocks,
    ) -> Result<(), (Failure, String)> {
        let mut allowance = Allowance::new(Direction::Down, &self.around.limiter);
        let mut left = length;
        while left > 0 {
            while allowance.open() == 0 {
                let bytes = allowance.wait().await;
                allowance.supply(bytes);
            }
            allowance.rest();
            let mut chunk = match timeout(PATIENCE, stream.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => {
                    return Err((Failure::Unreachable, "it ended a reply early".to_owned()));
                }
                Ok(Err(error)) => return Err((kind(&error), error.to_string())),
                Err(_) => return Err((Failure::Stalled, "nothing came for too long".to_owned())),
            };
            allowance.spend(chunk.len() as u64);
            let over = usize::try_from(skip).map_or(chunk.len(), |skip| skip.min(chunk.len()));
            skip -= chunk.split_to(over).len() as u64;
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            self.fill(&chunk, blocks).await;
            left -= chunk.len() as u64;
        }
        // What the client had read ahead is paid for here: the next fetch has an allowance of its own.
        while allowance.open() == 0 {
            let bytes = allowance.wait().await;
            allowance.supply(bytes);
        }
        // A connection whose reply was read to its end can be used again.
        drop(timeout(END_TIMEOUT, stream.chunk()).await);
        Ok(())
    }

    /// Puts bytes where the next of the fetch go.
    async fn fill(&self, mut bytes: &[u8], blocks: &mut Blocks) {
        let layout = self.around.metainfo.layout();
        while let Some(&block) = blocks.left.front().filter(|_| !bytes.is_empty()) {
            let length = layout.block_length(block) as usize;
            let buffer = match &mut blocks.filling {
                Some(buffer) => buffer,
                none => {
                    let mut buffer = self.around.storage.lease().await;
                    buffer.set_len(length);
                    blocks.filled = 0;
                    none.insert(buffer)
                }
            };
            let count = bytes.len().min(length - blocks.filled);
            buffer[blocks.filled..blocks.filled + count].copy_from_slice(&bytes[..count]);
            blocks.filled += count;
            bytes = &bytes[count..];
            if blocks.filled == length
                && let Some(buffer) = blocks.filling.take()
            {
                blocks.left.pop_front();
                let progress = (blocks.id, Progress::Block(block, buffer));
                drop(blocks.sender.send(progress).await);
            }
        }
    }
}

/// The seconds that a script's refusal says.
async fn refusal(stream: &mut HttpStream) -> Option<Duration> {
    let mut text = Vec::new();
    while text.len() < MAX_REFUSAL_BYTES
        && let Ok(Ok(Some(chunk))) = timeout(PATIENCE, stream.chunk()).await
    {
        text.extend(chunk.iter().take(MAX_REFUSAL_BYTES - text.len()));
    }
    let text = std::str::from_utf8(&text).ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// What an error of the client means for the origin.
fn kind(error: &HttpError) -> Failure {
    match error {
        HttpError::UnsupportedScheme(_)
        | HttpError::Resolve(
            ResolveError::Refused { .. }
            | ResolveError::NameRefused(_)
            | ResolveError::Isolated { .. },
        )
        | HttpError::Downgrade { .. } => Failure::Forbidden,
        HttpError::BadRedirect(_) | HttpError::TooManyRedirects { .. } => {
            Failure::Misbehaved("it redirects to nowhere")
        }
        HttpError::TimedOut { .. } => Failure::Stalled,
        HttpError::Resolve(_)
        | HttpError::TooLarge { .. }
        | HttpError::NoCertificateAuthorities
        | HttpError::Shut { .. }
        | HttpError::Failed { .. } => Failure::Unreachable,
    }
}

fn words(failure: &Failure, status: u16) -> String {
    match failure {
        Failure::Busy { .. } => format!("it is busy (status {status})"),
        Failure::Missing(what) | Failure::Misbehaved(what) => format!("{what} (status {status})"),
        Failure::NoRanges => "it does not serve ranges".to_owned(),
        Failure::Unreachable | Failure::Stalled | Failure::Forbidden => format!("status {status}"),
    }
}
