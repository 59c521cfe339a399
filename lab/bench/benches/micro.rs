//! What one call costs: picker, bencode, wire and hashing. `cargo bench --package shoal-bench`.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use shoal_bench::picking::Scene;
use shoal_metainfo::bencode::{self, Bencode};
use shoal_metainfo::hasher::{Run, hash_together};
use shoal_metainfo::verifier::Needs;
use shoal_metainfo::{PieceHasher, PieceIndex, merkle};
use shoal_wire::{Decoded, Decoder, Limits, Message, RemoteExtensions, Request, encode};

fn main() {
    divan::main();
}

const PIECE_BYTES: usize = 1 << 20;

fn noise(length: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut bytes = vec![0; length];
    rng.fill(&mut bytes);
    bytes
}

/// A pick of 8 blocks, their arrival, and a have message: a few thousand times, for a download does not last for ever.
#[divan::bench(args = [5_000, 50_000], sample_count = 100, sample_size = 20)]
fn picker_step(bencher: Bencher<'_, '_>, pieces: u32) {
    let mut scene = Scene::new(pieces, 500).expect("a torrent may have so many pieces");
    for _ in 0..4_000 {
        scene.step().expect("there are peers");
    }
    bencher.bench_local(|| scene.step());
}

/// The metainfo of a torrent of a thousand files and ten thousand pieces.
fn torrent() -> Bencode {
    let file = |number: i64| {
        let path = ["folder".to_owned(), format!("file {number}")];
        let path = path.map(|name| Bencode::Bytes(name.into_bytes()));
        Bencode::dict([
            ("length", Bencode::Int(number)),
            ("path", Bencode::List(path.into())),
        ])
    };
    let info = Bencode::dict([
        ("files", Bencode::List((0..1_000).map(file).collect())),
        ("name", Bencode::Bytes(b"a torrent".to_vec())),
        ("piece length", Bencode::Int(1 << 20)),
        ("pieces", Bencode::Bytes(noise(20 * 10_000))),
    ]);
    Bencode::dict([("info", info)])
}

#[divan::bench]
fn bencode_decode(bencher: Bencher<'_, '_>) {
    let bytes = torrent().encode();
    bencher
        .counter(BytesCount::of_slice(&bytes))
        .bench(|| bencode::decode(black_box(&bytes), bencode::Limits::LOCAL).map(drop));
}

#[divan::bench]
fn bencode_encode(bencher: Bencher<'_, '_>) {
    let torrent = torrent();
    bencher.bench(|| black_box(&torrent).encode());
}

/// What a seed hears: a request for each block of a piece, and now and then a have.
fn messages() -> Vec<Message> {
    let block = |number: u32| match number % 16 {
        0 => Message::Have(PieceIndex(number)),
        _ => Message::Request(Request {
            piece: PieceIndex(number / 64),
            begin: (number % 64) * 16_384,
            length: 16_384,
        }),
    };
    (0..1_000).map(block).collect()
}

fn encoded(messages: &[Message]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        encode(message, &RemoteExtensions::default(), &mut bytes);
    }
    bytes
}

#[divan::bench]
fn wire_decode(bencher: Bencher<'_, '_>) {
    let messages = messages();
    let bytes = encoded(&messages);
    let limits = Limits {
        piece_count: Some(1_000),
    };
    let count = ItemsCount::new(messages.len());
    bencher.counter(count).bench(|| {
        let (mut decoder, mut at) = (Decoder::new(limits), 0);
        while let Ok(Decoded::Message { consumed, message }) = decoder.decode(&bytes[at..]) {
            black_box(message);
            at += consumed;
        }
        assert_eq!(at, bytes.len());
    });
}

#[divan::bench]
fn wire_encode(bencher: Bencher<'_, '_>) {
    let messages = messages();
    let count = ItemsCount::new(messages.len());
    bencher
        .counter(count)
        .bench(|| encoded(black_box(&messages)));
}

/// The blocks of half of a piece.
fn half(piece: &[u8], which: usize) -> Vec<&[u8]> {
    piece.chunks(16_384).skip(which * 32).take(32).collect()
}

/// So many pieces side by side, in runs of 32 blocks as storage hashes them.
fn hash_pieces(bencher: Bencher<'_, '_>, needs: Needs, count: usize) {
    let pieces: Vec<Vec<u8>> = (0..count).map(|_| noise(PIECE_BYTES)).collect();
    let bytes = BytesCount::new(count * PIECE_BYTES);
    bencher.counter(bytes).bench(|| {
        let mut hashers: Vec<PieceHasher> = (0..count)
            .map(|_| PieceHasher::new(needs, 1 << 20))
            .collect();
        for run in 0..2 {
            let chunks: Vec<Vec<&[u8]>> = pieces.iter().map(|piece| half(piece, run)).collect();
            let runs = hashers.iter_mut().zip(&chunks);
            let mut runs: Vec<Run<'_>> = runs
                .map(|(hasher, chunks)| Run { hasher, chunks })
                .collect();
            hash_together(&mut runs);
        }
        hashers
            .into_iter()
            .map(PieceHasher::finish)
            .collect::<Vec<_>>()
    });
}

#[divan::bench(args = [1, 2, 3, 4])]
fn hash_v1_pieces(bencher: Bencher<'_, '_>, count: usize) {
    let needs = Needs {
        sha1: true,
        blocks: false,
    };
    hash_pieces(bencher, needs, count);
}

#[divan::bench]
fn hash_v2_piece(bencher: Bencher<'_, '_>) {
    let needs = Needs {
        sha1: false,
        blocks: true,
    };
    hash_pieces(bencher, needs, 1);
}

/// The root over the leaves of a piece of 1 MiB.
#[divan::bench]
fn merkle_root(bencher: Bencher<'_, '_>) {
    let leaves: Vec<[u8; 32]> = (0..64).map(|leaf| [leaf; 32]).collect();
    bencher.bench(|| merkle::root(black_box(&leaves), 64));
}
