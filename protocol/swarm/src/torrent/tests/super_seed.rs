//! What a super-seed shows to whom (BEP 16).

use super::*;

fn super_seed() -> Bench {
    Bench::new(TorrentConfig {
        super_seed: true,
        ..config(Bitfield::full(PIECES))
    })
}

/// The pieces that a peer is told of.
fn shown(outputs: &[Output], key: PeerKey) -> Vec<PieceIndex> {
    let told = outputs.iter().filter_map(|output| match output {
        Output::Peer {
            peer,
            message: ToPeer::Have(pieces),
        } if *peer == key => Some(pieces),
        _ => None,
    });
    told.flatten().copied().collect()
}

/// A peer with these pieces, and what it is shown.
fn meet(bench: &mut Bench, n: u64, has: Has) -> (PeerKey, Vec<PieceIndex>) {
    let (peer, _) = bench.connect(n);
    let outputs = bench.says(peer, FromPeer::Joined { has, fast: true });
    let pieces = shown(&outputs, peer);
    (peer, pieces)
}

fn is_over(outputs: &[Output]) -> bool {
    let all = (0..PIECES).map(PieceIndex).collect();
    outputs.contains(&Output::Broadcast(ToPeer::Have(all)))
        && outputs.contains(&Output::Broadcast(ToPeer::UploadOnly(true)))
}

#[test]
fn each_peer_is_shown_another_piece_and_the_next_when_it_has_passed_one_on() {
    let mut bench = super_seed();
    assert!(bench.torrent.claims() == Has::None && !bench.torrent.claims_upload_only());
    let (first, one) = meet(&mut bench, 1, Has::None);
    let (second, two) = meet(&mut bench, 2, Has::None);
    assert_eq!((one.len(), two.len()), (1, 1));
    assert_ne!(one, two);
    // It has it, and the other has not: nothing more.
    let outputs = bench.says(first, FromPeer::Have(one[0]));
    assert!(shown(&outputs, first).is_empty() && shown(&outputs, second).is_empty());
    let outputs = bench.says(second, FromPeer::Have(one[0]));
    let next = shown(&outputs, first);
    assert!(next.len() == 1 && next != two && next != one);
    assert!(shown(&outputs, second).is_empty());
    // Who may fetch sees more.
    let outputs = bench.handle(Input::Unchoked(vec![first]));
    assert_eq!(shown(&outputs, first).len(), MOST_SHOWN - 1);
}

#[test]
fn who_passes_nothing_on_waits_and_a_single_peer_does_not() {
    let mut bench = super_seed();
    let (first, one) = meet(&mut bench, 1, Has::None);
    let outputs = bench.says(first, FromPeer::Have(one[0]));
    let two = shown(&outputs, first);
    assert_eq!(two.len(), 1, "nobody else could be seen with it");
    let (second, _) = meet(&mut bench, 2, Has::None);
    assert!(shown(&bench.says(first, FromPeer::Have(two[0])), first).is_empty());
    let due = bench.torrent.deadline().unwrap();
    bench.now = due + Duration::from_secs(30);
    let outputs = bench.handle(Input::Tick);
    assert_eq!(shown(&outputs, first).len(), 1, "patience is over");
    assert!(shown(&outputs, second).is_empty());
}

#[test]
fn what_was_shown_to_who_left_is_shown_to_others() {
    let mut bench = super_seed();
    let (gone, lost) = meet(&mut bench, 1, Has::None);
    bench.leave(gone);
    let (peer, pieces) = meet(&mut bench, 2, Has::None);
    let mut seen: BTreeSet<PieceIndex> = pieces.iter().copied().collect();
    let mut next = pieces;
    while let Some(&piece) = next.first() {
        next = shown(&bench.says(peer, FromPeer::Have(piece)), peer);
        seen.extend(&next);
    }
    assert!(seen.contains(&lost[0]) && seen.len() == PIECES as usize);
    assert!(!bench.torrent.is_super_seeding(), "a full copy is out");
}

#[test]
fn once_others_have_all_of_it_it_is_a_seed_like_any_other() {
    let mut bench = super_seed();
    let field = |pieces: core::ops::Range<u32>| {
        let mut field = Bitfield::empty(PIECES);
        for piece in pieces {
            field.insert(PieceIndex(piece));
        }
        Has::Some(field)
    };
    meet(&mut bench, 1, field(0..5));
    let (second, _) = meet(&mut bench, 2, field(5..7));
    assert!(bench.torrent.is_super_seeding());
    let outputs = bench.says(second, FromPeer::Have(PieceIndex(7)));
    assert!(is_over(&outputs));
    assert!(bench.torrent.claims() == Has::All && bench.torrent.claims_upload_only());
    // So it is from the start where another seed is there.
    let mut bench = super_seed();
    let (seed, _) = bench.connect(1);
    let has = Has::All;
    let outputs = bench.says(seed, FromPeer::Joined { has, fast: true });
    assert!(is_over(&outputs) && !bench.torrent.is_super_seeding());
}

#[test]
fn who_has_not_everything_is_no_super_seed_and_a_loss_ends_it() {
    let mut config = config(Bitfield::empty(PIECES));
    config.super_seed = true;
    assert!(!Torrent::new(config).is_super_seeding());
    let mut bench = super_seed();
    let piece = PieceIndex(3);
    let outputs = bench.handle(Input::Lost { piece });
    let told = |wanted: &Output| outputs.iter().position(|output| output == wanted);
    let lost = told(&Output::Broadcast(ToPeer::Lost(piece)));
    let all = (0..PIECES).map(PieceIndex).collect();
    assert!(told(&Output::Broadcast(ToPeer::Have(all))) < lost && lost.is_some());
}
