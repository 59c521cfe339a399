//! Remotes that lie, babble, keep silent or dawdle.

use crate::remote::{Remote, block, encoded, request};
use crate::rig::{
    ELSEWHERE, PATIENCE, PIECE, Sample, config, engine, seed, soon, usual_seed, wait,
};
use shoal_engine::{AddTorrent, Engine, TorrentHandle};
use shoal_metainfo::create::Kind;
use shoal_metainfo::{Bitfield, PieceIndex, merkle};
use shoal_wire::{HashRequest, Message, Request};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An engine that wants the sample, and knows `peers`.
struct Leech {
    engine: Engine,
    torrent: TorrentHandle,
    target: tempfile::TempDir,
}

impl Leech {
    async fn new(sample: &Sample, peers: Vec<SocketAddr>) -> Leech {
        let (engine, target) = (engine().await, tempfile::tempdir().unwrap());
        let add = AddTorrent {
            peers,
            ..sample.add(target.path())
        };
        let torrent = engine.add(add).await.unwrap();
        wait(&torrent, |state| state.wanted_bytes > 0).await;
        Leech {
            engine,
            torrent,
            target,
        }
    }

    fn address(&self) -> SocketAddr {
        self.engine.listening()[0]
    }

    /// An honest seed connects to it: it must finish.
    async fn finishes(self, sample: &Sample) {
        let seed = seed(sample, config(HERE), self.engine.listening()).await;
        wait(&self.torrent, |state| state.complete).await;
        sample.assert_is_in(self.target.path());
        self.engine.stop(PATIENCE).await;
        seed.engine.stop(PATIENCE).await;
    }
}

#[tokio::test]
async fn a_liar_is_banned_and_the_honest_seed_finishes_it() {
    let sample = Sample::pieces(16);
    let listener = TcpListener::bind((ELSEWHERE, 0)).await.unwrap();
    let leech = Leech::new(&sample, vec![listener.local_addr().unwrap()]).await;
    let liar = soon(Remote::accept(&listener, &sample)).await.unwrap();
    let served = soon(liar.serve(|request| {
        let mut bytes = block(&sample, request);
        bytes[7] ^= 1;
        bytes
    }))
    .await;
    assert!(!served.is_empty());
    let state = wait(&leech.torrent, |state| {
        state.failed_pieces > 0 && state.peers.is_empty()
    })
    .await;
    assert_eq!(state.verified_pieces, 0);
    // It may knock, and is shown out before it is asked for anything.
    if let Ok(again) = Remote::connect(leech.address(), ELSEWHERE, &sample).await {
        let requests = soon(again.serve(|request| block(&sample, request))).await;
        assert!(requests.is_empty());
    }
    leech.finishes(&sample).await;
}

#[tokio::test]
async fn a_hundred_strangers_who_say_nothing_do_not_keep_out_a_peer() {
    let sample = Sample::pieces(8);
    let leech = Leech::new(&sample, Vec::new()).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(leech.address()).await.unwrap());
    }
    // Those who have stood longest are shown out: the door has room for 64.
    for stranger in &mut silent[..36] {
        let mut byte = [0];
        let end = soon(stranger.read(&mut byte)).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    // The others still stand there.
    for stranger in &silent[36..] {
        let nothing = stranger.try_read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(nothing, Err(io::ErrorKind::WouldBlock));
    }
    leech.finishes(&sample).await;
    drop(silent);
}

#[tokio::test]
async fn who_breaks_the_protocol_is_shown_out() {
    let sample = Sample::pieces(8);
    let leech = Leech::new(&sample, Vec::new()).await;
    let mut garbage = vec![0; 4096];
    fastrand::Rng::with_seed(3).fill(&mut garbage);
    garbage[0] = 0xff;
    let mut unsolicited = encoded(&[Message::HaveAll, Message::Piece(request(2))]);
    unsolicited.extend(vec![0; PIECE as usize]);
    let offences: [(&str, Vec<u8>); 6] = [
        ("garbage", garbage),
        ("a message without end", vec![0xff; 4]),
        ("a block that nobody asked for", unsolicited),
        (
            "a piece that does not exist",
            encoded(&[Message::Have(PieceIndex(8))]),
        ),
        (
            "a bitfield of another torrent",
            encoded(&[Message::Bitfield(vec![0; 2])]),
        ),
        (
            "a bitfield with bits to spare",
            encoded(&[Message::Bitfield(vec![0xff; 9])]),
        ),
    ];
    for (offence, bytes) in offences {
        let mut remote = Remote::connect(leech.address(), HERE, &sample)
            .await
            .unwrap();
        remote.send(&bytes).await.unwrap();
        let shown_out = tokio::time::timeout(PATIENCE, remote.hear_all()).await;
        assert!(shown_out.is_ok(), "still there after {offence}");
    }
    // One that has said all that it had to say is gone, too.
    let mut remote = Remote::connect(leech.address(), HERE, &sample)
        .await
        .unwrap();
    remote.stream.shutdown().await.unwrap();
    soon(remote.hear_all()).await;
    let state = wait(&leech.torrent, |state| state.peers.is_empty()).await;
    assert_eq!((state.downloaded_bytes, state.verified_pieces), (0, 0));
    leech.finishes(&sample).await;
}

#[tokio::test]
async fn a_remote_that_sends_byte_by_byte_is_understood() {
    let sample = Sample::new(Kind::V1, &[PIECE as usize + 300], PIECE);
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let leech = Leech::new(&sample, vec![listener.local_addr().unwrap()]).await;
    let mut remote = soon(Remote::accept(&listener, &sample)).await.unwrap();
    let mut bytes = encoded(&[Message::HaveAll, Message::KeepAlive, Message::Unchoke]);
    let mut asked = 0;
    loop {
        for byte in bytes.drain(..) {
            remote.send(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        if asked == 2 {
            break;
        }
        let message = remote
            .hear_until(|message| matches!(message, Message::Request(_)))
            .await;
        let Message::Request(request) = message else {
            unreachable!();
        };
        asked += 1;
        bytes = encoded(&[Message::Piece(request)]);
        bytes.extend(block(&sample, request));
    }
    wait(&leech.torrent, |state| state.complete).await;
    sample.assert_is_in(leech.target.path());
    leech.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn blocks_and_many_small_messages_come_in_one_go() {
    let sample = Sample::pieces(24);
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let leech = Leech::new(&sample, vec![listener.local_addr().unwrap()]).await;
    let mut remote = soon(Remote::accept(&listener, &sample)).await.unwrap();
    remote
        .say(&[Message::HaveAll, Message::Unchoke])
        .await
        .unwrap();
    let mut answered = 0;
    while answered < 24 {
        let message = remote
            .hear_until(|message| matches!(message, Message::Request(_)))
            .await;
        let Message::Request(request) = message else {
            unreachable!();
        };
        // More of them than the buffer for messages holds, before and behind the block.
        let babble = vec![Message::Have(PieceIndex(3)); 500];
        let mut bytes = encoded(&babble);
        bytes.extend(encoded(&[Message::Piece(request)]));
        bytes.extend(block(&sample, request));
        bytes.extend(encoded(&babble));
        remote.send(&bytes).await.unwrap();
        answered += 1;
    }
    wait(&leech.torrent, |state| state.complete).await;
    sample.assert_is_in(leech.target.path());
    leech.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_bitfield_longer_than_the_buffer_is_understood_in_any_portions() {
    // 100,000 pieces: a bitfield of 12,500 bytes. Nothing of it is ever on disk.
    let sample = Sample::new(Kind::V1, &[100_000 * 16], 16);
    let leech = Leech::new(&sample, Vec::new()).await;
    let mut field = Bitfield::empty(sample.piece_count());
    field.insert(PieceIndex(99_999));
    let bytes = encoded(&[Message::Bitfield(field.to_wire())]);
    for portion in [1, 1_000, 2_048, bytes.len()] {
        let mut remote = Remote::connect(leech.address(), HERE, &sample)
            .await
            .unwrap();
        for part in bytes.chunks(portion) {
            remote.send(part).await.unwrap();
            tokio::task::yield_now().await;
        }
        remote
            .hear_until(|message| *message == Message::Interested)
            .await;
        // Something behind it is understood as well.
        remote.say(&[Message::Unchoke]).await.unwrap();
        let asked = remote
            .hear_until(|message| matches!(message, Message::Request(_)))
            .await;
        let last = Request {
            length: 16,
            ..request(99_999)
        };
        assert_eq!(asked, Message::Request(last));
    }
    leech.engine.stop(PATIENCE).await;
}

/// Becomes unchoked by a seed.
async fn unchoked(to: SocketAddr, sample: &Sample) -> Remote {
    let mut remote = Remote::connect(to, HERE, sample).await.unwrap();
    remote
        .say(&[Message::HaveNone, Message::Interested])
        .await
        .unwrap();
    remote
        .hear_until(|message| *message == Message::Unchoke)
        .await;
    remote
}

#[tokio::test]
async fn a_remote_that_asks_for_everything_and_reads_nothing_hurts_nobody_else() {
    let sample = Sample::pieces(512);
    let seed = usual_seed(&sample).await;
    let mut deaf = unchoked(seed.peers()[0], &sample).await;
    let all: Vec<Message> = (0..512)
        .map(|piece| Message::Request(request(piece)))
        .collect();
    deaf.say(&all).await.unwrap();
    let leech = Leech::new(&sample, seed.peers()).await;
    wait(&leech.torrent, |state| state.complete).await;
    sample.assert_is_in(leech.target.path());
    leech.engine.stop(PATIENCE).await;
    // When it reads after all, it gets all that it asked for.
    for piece in 0..512 {
        let heard = deaf
            .hear_until(|message| matches!(message, Message::Piece(_)))
            .await;
        assert_eq!(heard, Message::Piece(request(piece)));
    }
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_remote_that_does_not_take_its_answers_is_not_heard_any_more() {
    let sample = Sample::pieces(4);
    let seed = usual_seed(&sample).await;
    let mut deaf = unchoked(seed.peers()[0], &sample).await;
    // Each pair is answered by a reject, and none of these is read: what we may write is bounded then.
    let pair = [Message::Request(request(1)), Message::Cancel(request(1))];
    let flood = encoded(&pair).repeat(4_000);
    let mut written = 0;
    let stuck = loop {
        match tokio::time::timeout(
            Duration::from_secs(2),
            deaf.stream.write(&flood[written % flood.len()..]),
        )
        .await
        {
            Ok(Ok(count)) => written += count,
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => break true,
        }
        if written > 64 * 1024 * 1024 {
            break false;
        }
    };
    assert!(stuck, "it swallowed {written} bytes");
    // Whoever reads is heard again, up to the last word.
    let last = Message::Request(request(3));
    let (mut reading, mut writing) = deaf.stream.into_split();
    let bytes = encoded(&[last]);
    let writer = tokio::spawn(async move {
        // What was written in part comes first.
        writing.write_all(&flood[written % flood.len()..]).await?;
        writing.write_all(&bytes).await?;
        io::Result::Ok(writing)
    });
    let mut sink = vec![0; 64 * 1024];
    let drained = async {
        while !writer.is_finished() {
            assert!(reading.read(&mut sink).await.unwrap() > 0);
        }
    };
    soon(drained).await;
    writer.await.unwrap().unwrap();
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn hashes_are_given_to_who_asks_for_what_exists() {
    let sample = Sample::new(Kind::V2, &[5 * PIECE as usize, 200_000], PIECE);
    let seed = usual_seed(&sample).await;
    let mut remote = Remote::connect(seed.peers()[0], HERE, &sample)
        .await
        .unwrap();
    let file = sample
        .metainfo
        .files()
        .iter()
        .find(|file| file.length == 200_000)
        .unwrap();
    let asked = |index: u32, base_layer: u32| HashRequest {
        pieces_root: file.root.unwrap(),
        base_layer,
        index,
        length: 2,
        proof_layers: 3,
    };
    // Far beyond the file, whose first piece is not the torrent's; on layers that are there and that are not.
    for absurd in [
        asked(u32::MAX - 1, 0),
        asked(u32::MAX - 1, 1),
        asked(16, 0),
        asked(0, 40),
    ] {
        remote.say(&[Message::HashRequest(absurd)]).await.unwrap();
        let answer = remote.hear_until(is_about_hashes).await;
        assert_eq!(answer, Message::HashReject(absurd));
    }
    let sound = asked(2, 0);
    remote.say(&[Message::HashRequest(sound)]).await.unwrap();
    let Message::Hashes(answer) = remote.hear_until(is_about_hashes).await else {
        panic!("rejected");
    };
    let root = file.root.unwrap();
    assert!(merkle::verify_proof(&sound, 4, &answer.hashes, &root));
    seed.engine.stop(PATIENCE).await;
}

fn is_about_hashes(message: &Message) -> bool {
    matches!(message, Message::Hashes(_) | Message::HashReject(_))
}
