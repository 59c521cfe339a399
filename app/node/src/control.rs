//! The control socket: a line of JSON for what is asked, a line of JSON for the answer, as often as the other side likes.
//!
//! Invariant: no line and no torrent is read that is longer than its bound, and as many connections as there are permits are served at once.

use crate::error::NodeError;
use crate::message::{ErrorKind, Import, ImportNews, Reply, Request};
use crate::session::Node;
use shoal_metainfo::metainfo::Limits;
use shoal_transport::{ControlListener, ControlStream, connect_control};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::sync::{Semaphore, mpsc};

/// A selection of a million files fits.
const MAX_REQUEST_BYTES: u64 = 16 * 1024 * 1024;

/// What all torrents of a session can come to, on the side of whoever asks.
const MAX_REPLY_BYTES: u64 = 256 * 1024 * 1024;

const MAX_CONNECTIONS: usize = 64;

/// After an error of the system, such as too many open files.
const REST: Duration = Duration::from_millis(100);

/// Serves everybody who connects, until it is dropped.
pub async fn serve(listener: ControlListener, node: Node) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok(stream) => {
                let node = node.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &node).await {
                        tracing::debug!(%error, "a control connection broke");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a control connection is not accepted");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Torrent by torrent: what thousands of them come to is never in memory as a whole.
async fn send(reply: &Reply, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut stream = BufWriter::new(stream);
    match reply {
        Reply::Torrents { torrents } => {
            let mut before: &[u8] = br#"{"reply":"torrents","torrents":["#;
            for torrent in torrents {
                stream.write_all(before).await?;
                stream.write_all(&serde_json::to_vec(torrent)?).await?;
                before = b",";
            }
            if torrents.is_empty() {
                stream.write_all(before).await?;
            }
            stream.write_all(b"]}\n").await?;
        }
        other => {
            stream.write_all(&serde_json::to_vec(other)?).await?;
            stream.write_all(b"\n").await?;
        }
    }
    stream.flush().await
}

async fn converse(stream: ControlStream, node: &Node) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(line) = line(&mut stream, MAX_REQUEST_BYTES).await? {
        let (reply, more) = match serde_json::from_slice(&line) {
            Ok(Request::Import(import)) => {
                let done = import_over(stream.get_mut(), node, *import).await?;
                match done {
                    Ok(()) => continue,
                    Err(error) => (answer(Err(error)), true),
                }
            }
            Ok(request) => match file(&request, &mut stream).await? {
                Ok(file) => (answer(node.ask(request, file).await), true),
                Err(error) => (answer(Err(error)), false),
            },
            Err(error) => {
                let what = format!("the request cannot be read: {error}");
                (answer(Err(NodeError::Usage(what))), false)
            }
        };
        send(&reply, stream.get_mut()).await?;
        // What follows a request that was not understood may be bytes of a torrent.
        if !more {
            return Ok(());
        }
    }
    Ok(())
}

/// Imports, and says what is told of it as it comes. It ends with whoever listens.
async fn import_over(
    stream: &mut ControlStream,
    node: &Node,
    import: Import,
) -> io::Result<Result<(), NodeError>> {
    let (news, mut told) = mpsc::channel(1);
    let importing = node.import(import, news);
    let telling = async {
        while let Some(news) = told.recv().await {
            if let Err(error) = send(&Reply::Import { news }, stream).await {
                told.close();
                return Err(error);
            }
        }
        Ok(())
    };
    let (done, told) = tokio::join!(importing, telling);
    told.map(|()| done)
}

fn answer(answer: Result<Reply, NodeError>) -> Reply {
    answer.unwrap_or_else(|error| Reply::Error {
        kind: error.kind(),
        message: error.to_string(),
    })
}

/// The bytes that follow a request.
async fn file(
    request: &Request,
    stream: &mut BufReader<ControlStream>,
) -> io::Result<Result<Option<Vec<u8>>, NodeError>> {
    let Request::Add(add) = request else {
        return Ok(Ok(None));
    };
    let Some(bytes) = add.torrent_bytes else {
        return Ok(Ok(None));
    };
    if bytes > Limits::LOCAL.bytes {
        let most = Limits::LOCAL.bytes;
        let what = format!("the torrent has {bytes} bytes; {most} are the most");
        return Ok(Err(NodeError::Refused(what)));
    }
    let mut file = Vec::new();
    let taken = stream.take(bytes as u64).read_to_end(&mut file).await?;
    if taken < bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Ok(Some(file)))
}

/// The next line, without its end; `None` where the stream has ended.
async fn line(
    stream: &mut BufReader<ControlStream>,
    most_bytes: u64,
) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    stream.take(most_bytes).read_until(b'\n', &mut line).await?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a line without an end, or too long a one",
        )),
    }
}

/// Why a node does not answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no node runs; start one with `shoal up --headless`")]
    Absent,
    /// The connection broke, or the answer makes no sense.
    #[error("the node at {path} does not answer: {source}; see what its log says")]
    Broken {
        /// Where it listens.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not do it.
    #[error("{message}")]
    Refused {
        /// Of what kind the reason is.
        kind: ErrorKind,
        /// What, and what to do.
        message: String,
    },
}

/// A connection to a running node.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<ControlStream>,
}

impl Client {
    /// Connects to the node that listens at `path`.
    ///
    /// # Errors
    /// Nobody listens there, or it cannot be reached.
    pub async fn connect(path: &Path) -> Result<Client, ClientError> {
        match connect_control(path).await {
            Ok(stream) => Ok(Client {
                path: path.to_path_buf(),
                stream: BufReader::new(stream),
            }),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    Err(ClientError::Absent)
                }
                _ => Err(ClientError::Broken {
                    path: path.to_path_buf(),
                    source: error,
                }),
            },
        }
    }

    /// Asks, and gives the answer, which is no error. `file` follows the request.
    ///
    /// # Errors
    /// It is not done, or the connection breaks.
    pub async fn ask(&mut self, request: &Request, file: &[u8]) -> Result<Reply, ClientError> {
        let reply = self.exchange(request, file).await;
        self.understood(reply)
    }

    fn understood(&self, reply: io::Result<Reply>) -> Result<Reply, ClientError> {
        let reply = reply.map_err(|source| ClientError::Broken {
            path: self.path.clone(),
            source,
        })?;
        match reply {
            Reply::Error { kind, message } => Err(ClientError::Refused { kind, message }),
            reply => Ok(reply),
        }
    }

    /// Has torrents of another client taken over, and gives what is told of it to `hear` as it comes.
    ///
    /// # Errors
    /// It is not done, or the connection breaks; what was taken over by then stays. What `hear` says.
    pub async fn import<E: From<ClientError>>(
        &mut self,
        import: Import,
        mut hear: impl FnMut(ImportNews) -> Result<(), E>,
    ) -> Result<(), E> {
        let request = Request::Import(Box::new(import));
        let mut reply = self.ask(&request, &[]).await?;
        loop {
            let Reply::Import { news } = reply else {
                let source = io::ErrorKind::InvalidData.into();
                let path = self.path.clone();
                return Err(ClientError::Broken { path, source }.into());
            };
            let is_done = matches!(news, ImportNews::Done { .. });
            hear(news)?;
            if is_done {
                return Ok(());
            }
            let heard = self.hear().await;
            reply = self.understood(heard)?;
        }
    }

    /// Waits until the node has closed the connection, as it does when it ends.
    pub async fn closed(&mut self) {
        // However it breaks, nobody is at the other end any more.
        while let Ok(Some(_)) = line(&mut self.stream, MAX_REPLY_BYTES).await {}
    }

    async fn exchange(&mut self, request: &Request, file: &[u8]) -> io::Result<Reply> {
        let mut bytes = serde_json::to_vec(request)?;
        bytes.push(b'\n');
        bytes.extend_from_slice(file);
        self.stream.get_mut().write_all(&bytes).await?;
        self.hear().await
    }

    /// The next answer.
    async fn hear(&mut self) -> io::Result<Reply> {
        let line = line(&mut self.stream, MAX_REPLY_BYTES).await?;
        let line = line.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(serde_json::from_slice(&line)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{State, Torrent};
    use std::collections::{BTreeMap, BTreeSet};

    fn torrent(id: i64) -> Torrent {
        Torrent {
            id,
            info_hash: "00".to_owned(),
            name: format!("\"{id}\"\n"),
            state: State::Seeding,
            message: None,
            home: None,
            moving_to: None,
            renamed: BTreeMap::new(),
            directory: "/".to_owned(),
            category: None,
            tags: BTreeSet::new(),
            position: None,
            forced: false,
            rules: BTreeMap::new(),
            sequential: false,
            first_last: false,
            priorities: BTreeMap::new(),
            wanted_bytes: 1,
            verified_bytes: 1,
            downloaded_bytes: 0,
            uploaded_bytes: 0,
            download_rate_bytes_per_s: 0,
            upload_rate_bytes_per_s: 0,
            wasted_bytes: 0,
            failed_pieces: 0,
            peers: 0,
            seeds: 0,
            added_at: 0,
            completed_at: None,
        }
    }

    #[tokio::test]
    async fn a_list_that_is_sent_torrent_by_torrent_is_one_line_that_says_the_same() {
        for count in [0, 1, 3] {
            let torrents = (0..count).map(torrent).collect();
            let reply = Reply::Torrents { torrents };
            let mut sent = Vec::new();
            send(&reply, &mut sent).await.unwrap();
            let mut whole = serde_json::to_vec(&reply).unwrap();
            whole.push(b'\n');
            assert_eq!(String::from_utf8(sent), String::from_utf8(whole));
        }
    }
}
