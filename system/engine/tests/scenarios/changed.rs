//! Files that somebody else cuts, overwrites or removes while they are being sent.

use crate::disk::until_files_are_looked_at;
use crate::remote::{Remote, block, request};
use crate::rig::{ELSEWHERE, PATIENCE, PIECE, Sample, Seed, config, seed, soon, usual_seed, wait};
use crate::sockets::narrow_the_other_end;
use shoal_engine::{AddTorrent, Engine, Phase, Snapshot, TorrentHandle};
use shoal_storage::Reason;
use shoal_wire::Message;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Pieces of the samples here.
const PIECES: usize = 256;
/// So slow that a download of them lasts long enough for its seed's file to be changed and for that to be noticed, which
/// takes a second at most.
const RATE: u64 = 1_200_000;

fn cut(path: &Path, length: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(length).unwrap();
}

/// Something was lost, and all that was lost is verified again.
fn is_settled(state: &Snapshot) -> bool {
    state.lost_pieces > 0 && state.rechecking_pieces == 0
}

#[tokio::test]
async fn what_a_cut_file_no_longer_holds_is_rejected_or_ends_the_stream_and_no_wrong_byte_leaves() {
    const KEPT: u32 = 6;
    let sample = Sample::pieces(1_024);
    let seed = usual_seed(&sample).await;
    let to = seed.peers()[0];
    let mut remote = Remote::connect_with(to, HERE, &sample, 1).await.unwrap();
    narrow_the_other_end(&remote.stream);
    let greeting = [Message::HaveNone, Message::Interested];
    remote.say(&greeting).await.unwrap();
    remote
        .hear_until(|message| *message == Message::Unchoke)
        .await;
    let asked: Vec<Message> = (0..1_024).map(|n| Message::Request(request(n))).collect();
    remote.say(&asked).await.unwrap();
    let (mut heard, mut rejected) = (0, 0);
    // Whatever the moment at which the file is cut: a block comes right, or not at all. One that has begun to leave cannot be
    // taken back, so that only the end of the stream is left.
    let listening = async {
        while heard + rejected < 1_024
            && let Ok((message, payload)) = remote.hear_whole().await
        {
            if let Message::Piece(header) = message {
                assert!(payload == block(&sample, header), "{header:?}");
                heard += 1;
            }
            rejected += u32::from(matches!(message, Message::Reject(_)));
            if heard == 3 {
                let kept = u64::from(KEPT * PIECE);
                cut(&sample.path(seed.directory.path(), 0), kept);
            }
        }
    };
    soon(listening).await;
    assert!((3..1_024).contains(&heard), "{heard} blocks came");
    let state = wait(&seed.torrent, is_settled).await;
    assert_eq!((state.verified_pieces, state.complete), (KEPT, false));
    // What is left is served to others.
    let mut remote = Remote::connect(to, HERE, &sample).await.unwrap();
    let greeting = [Message::HaveNone, Message::Interested];
    remote.say(&greeting).await.unwrap();
    remote
        .hear_until(|message| *message == Message::Unchoke)
        .await;
    remote.say(&asked[..=KEPT as usize]).await.unwrap();
    let mut served = 0;
    let mut rejected = 0;
    // What cannot be served is said first.
    for _ in 0..=KEPT {
        match remote.hear_whole().await.unwrap() {
            (Message::Piece(header), payload) => {
                assert_eq!(header, request(served));
                assert!(payload == block(&sample, header), "{header:?}");
                served += 1;
            }
            (message, _) => {
                assert_eq!(message, Message::Reject(request(KEPT)));
                rejected += 1;
            }
        }
    }
    assert_eq!((served, rejected), (KEPT, 1));
    seed.engine.stop(PATIENCE).await;
}

/// A download from a seed at [`ELSEWHERE`], which may come to be banned, caught when it has begun.
struct Caught {
    sample: Sample,
    source: Seed,
    leech: Engine,
    getting: TorrentHandle,
    target: tempfile::TempDir,
}

impl Caught {
    async fn new() -> Caught {
        let sample = Sample::pieces(PIECES);
        let mut slow = config(ELSEWHERE);
        slow.transport.limits.up_bytes_per_s = NonZeroU64::new(RATE);
        let source = seed(&sample, slow, &[]).await;
        let leech = Engine::start(config(HERE)).await.unwrap();
        let target = tempfile::tempdir().unwrap();
        let add = AddTorrent {
            peers: source.peers(),
            ..sample.add(target.path())
        };
        let getting = leech.add(add).await.unwrap();
        wait(&getting, |state| state.verified_pieces >= 8).await;
        assert!(!getting.watch().borrow().complete, "too late");
        Caught {
            sample,
            source,
            leech,
            getting,
            target,
        }
    }

    fn source_file(&self) -> std::path::PathBuf {
        self.sample.path(self.source.directory.path(), 0)
    }

    /// Whatever came of the first seed, nothing wrong was taken from it: with an honest one the download ends well.
    async fn finishes(self) -> Snapshot {
        let honest = seed(&self.sample, config(HERE), self.leech.listening()).await;
        let done = wait(&self.getting, |state| state.complete).await;
        self.sample.assert_is_in(self.target.path());
        for engine in [self.leech, self.source.engine, honest.engine] {
            engine.stop(PATIENCE).await;
        }
        done
    }
}

#[tokio::test]
async fn a_download_from_a_file_that_is_cut_meanwhile_takes_no_wrong_piece() {
    let caught = Caught::new().await;
    // Within a page: what of it is on its way ends in zeros.
    cut(
        &caught.source_file(),
        (PIECES as u64 / 2) * u64::from(PIECE) + 123,
    );
    let state = wait(&caught.source.torrent, is_settled).await;
    assert_eq!(state.verified_pieces as usize, PIECES / 2);
    caught.finishes().await;
}

#[tokio::test]
async fn a_download_from_a_file_that_is_overwritten_meanwhile_takes_no_wrong_piece() {
    let caught = Caught::new().await;
    let half = caught.sample.bytes().len() / 2;
    let other: Vec<u8> = caught.sample.bytes()[half..]
        .iter()
        .map(|byte| !byte)
        .collect();
    let path = caught.source_file();
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&other, half as u64).unwrap();
    // Whoever was served last may have got something wrong, and left.
    until_files_are_looked_at().await;
    // The seed goes on with what is right, for somebody who has not seen what was wrong.
    let second = Engine::start(config(HERE)).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        peers: caught.source.peers(),
        ..caught.sample.add(target.path())
    };
    let getting = second.add(add).await.unwrap();
    let state = wait(&getting, |state| {
        state.verified_pieces as usize == PIECES / 2
    })
    .await;
    assert_eq!(state.failed_pieces, 0);
    let state = wait(&caught.source.torrent, is_settled).await;
    assert_eq!(state.verified_pieces as usize, PIECES / 2);
    second.stop(PATIENCE).await;
    caught.finishes().await;
}

#[tokio::test]
async fn a_download_from_a_file_that_is_removed_meanwhile_takes_no_wrong_piece() {
    let caught = Caught::new().await;
    fs::remove_file(caught.source_file()).unwrap();
    let state = wait(&caught.source.torrent, |state| {
        matches!(state.phase, Phase::Suspended { .. })
    })
    .await;
    let Phase::Suspended { reason, .. } = state.phase else {
        unreachable!();
    };
    assert_eq!((reason, state.lost_pieces), (Reason::FilesMissing, 0));
    // What was sent of it meanwhile was right.
    let done = caught.finishes().await;
    assert_eq!(done.failed_pieces, 0);
}
