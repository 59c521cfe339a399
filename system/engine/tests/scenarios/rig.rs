//! Torrents with known bytes, and engines to run them.

use shoal_engine::{AddTorrent, EncryptionPolicy, Engine, EngineConfig, Snapshot, TorrentHandle};
use shoal_metainfo::Metainfo;
use shoal_metainfo::bencode::Limits;
use shoal_metainfo::create::{Kind, Options, Plan, SourceFile};
use shoal_transport::TransportConfig;
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Longer than any of these takes on a busy machine; a test that hangs ends here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Where whoever is to be banned lives, as a ban is for an IP address.
pub(crate) const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

pub(crate) const PIECE: u32 = 16 * 1024;

/// A torrent, and its files' bytes by path below its folder.
pub(crate) struct Sample {
    pub(crate) metainfo: Arc<Metainfo>,
    /// The .torrent file.
    pub(crate) torrent_file: Vec<u8>,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

impl Sample {
    /// Files `file-0`, `file-1`, ... with these lengths.
    pub(crate) fn new(kind: Kind, lengths: &[usize], piece_length: u32) -> Self {
        Sample::with(kind, lengths, piece_length, &[], Vec::new())
    }

    /// One file of that many pieces, v1.
    pub(crate) fn pieces(count: usize) -> Self {
        Sample::new(Kind::V1, &[count * PIECE as usize], PIECE)
    }

    /// As [`Sample::new`], with trackers, each in a tier of its own, and with more entries that have no bytes.
    pub(crate) fn with(
        kind: Kind,
        lengths: &[usize],
        piece_length: u32,
        trackers: &[String],
        more: Vec<SourceFile>,
    ) -> Self {
        let options = Options {
            kind,
            piece_length: Some(piece_length),
            trackers: trackers.iter().map(|url| vec![url.clone()]).collect(),
            ..Options::default()
        };
        Sample::made(lengths, options, more)
    }

    /// As [`Sample::new`], as the options say.
    pub(crate) fn made(lengths: &[usize], options: Options, more: Vec<SourceFile>) -> Self {
        let mut rng = fastrand::Rng::with_seed(lengths.iter().sum::<usize>() as u64);
        let files: BTreeMap<String, Vec<u8>> = (0..)
            .zip(lengths)
            .map(|(number, &length)| {
                let mut bytes = vec![0; length];
                rng.fill(&mut bytes);
                (format!("file-{number}"), bytes)
            })
            .collect();
        let mut sources: Vec<SourceFile> = files
            .iter()
            .map(|(name, bytes)| SourceFile {
                path: vec![name.clone()],
                length: bytes.len() as u64,
                ..SourceFile::default()
            })
            .collect();
        sources.extend(more);
        let plan = Plan::new("sample".to_owned(), sources, options).unwrap();
        let contents: Vec<&Vec<u8>> = files.values().collect();
        let hashes: Vec<_> = plan
            .layout()
            .pieces()
            .map(|piece| {
                let mut hasher = plan.hasher(piece);
                for segment in plan.segments(piece) {
                    let length = segment.length as usize;
                    match segment.source {
                        Some(source) => {
                            let start = segment.offset as usize;
                            hasher.update(&contents[source][start..start + length]);
                        }
                        None => hasher.update(&vec![0; length]),
                    }
                }
                plan.piece_hash(piece, &hasher.finish())
            })
            .collect();
        let bytes = plan.finish(&hashes).unwrap();
        let metainfo = Metainfo::parse(&bytes, Limits::LOCAL).unwrap();
        Sample {
            metainfo: Arc::new(metainfo),
            torrent_file: bytes,
            files,
        }
    }

    pub(crate) fn piece_count(&self) -> u32 {
        self.metainfo.layout().piece_count()
    }

    /// The bytes of a torrent of one file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.files["file-0"]
    }

    pub(crate) fn write(&self, directory: &Path) {
        let folder = directory.join("sample");
        fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in &self.files {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }

    pub(crate) fn path(&self, directory: &Path, file: usize) -> PathBuf {
        directory.join("sample").join(format!("file-{file}"))
    }

    pub(crate) fn assert_is_in(&self, directory: &Path) {
        for (name, bytes) in &self.files {
            let found = fs::read(directory.join("sample").join(name)).unwrap();
            assert!(found == *bytes, "{name} differs");
        }
    }

    pub(crate) fn add(&self, directory: &Path) -> AddTorrent {
        AddTorrent::new(Arc::clone(&self.metainfo), directory.to_path_buf())
    }
}

/// A configuration that keeps to itself, for engines that may be changed before they start.
pub(crate) fn config(ip: IpAddr) -> EngineConfig {
    // Shown where a test fails and RUST_LOG asks for it; a second initialisation is refused and changes nothing.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    drop(
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer()
            .try_init(),
    );
    let transport = TransportConfig {
        listen: vec![SocketAddr::new(ip, 0)],
        isolated: true,
        ..TransportConfig::default()
    };
    EngineConfig {
        transport,
        workers: 2,
        // Remotes that are made by hand speak in the clear.
        encryption: EncryptionPolicy::Disabled,
        ..EngineConfig::default()
    }
}

pub(crate) async fn engine() -> Engine {
    Engine::start(config(Ipv4Addr::LOCALHOST.into()))
        .await
        .unwrap()
}

/// An engine that has the whole sample on disk and seeds it.
pub(crate) struct Seed {
    pub(crate) engine: Engine,
    pub(crate) torrent: TorrentHandle,
    pub(crate) directory: tempfile::TempDir,
}

/// Makes one, which dials `peers`.
pub(crate) async fn seed(sample: &Sample, config: EngineConfig, peers: &[SocketAddr]) -> Seed {
    let directory = tempfile::tempdir().unwrap();
    sample.write(directory.path());
    let engine = Engine::start(config).await.unwrap();
    let add = AddTorrent {
        seed_only: true,
        peers: peers.to_vec(),
        ..sample.add(directory.path())
    };
    let torrent = engine.add(add).await.unwrap();
    wait(&torrent, |state| state.complete).await;
    Seed {
        engine,
        torrent,
        directory,
    }
}

pub(crate) async fn usual_seed(sample: &Sample) -> Seed {
    seed(sample, config(Ipv4Addr::LOCALHOST.into()), &[]).await
}

impl Seed {
    pub(crate) fn peers(&self) -> Vec<SocketAddr> {
        self.engine.listening().to_vec()
    }
}

/// Waits for a state, and shows the last one where it does not come.
pub(crate) async fn wait(
    torrent: &TorrentHandle,
    until: impl FnMut(&Snapshot) -> bool,
) -> Snapshot {
    let mut watch = torrent.watch();
    let waited = tokio::time::timeout(PATIENCE, watch.wait_for(until)).await;
    let snapshot =
        waited.unwrap_or_else(|_| panic!("still {:?}", torrent.watch().borrow().clone()));
    snapshot.expect("the torrent ended").clone()
}

/// What must come to pass, within the patience.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it did not come to pass")
}
