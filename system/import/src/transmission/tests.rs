//! What the recorded session of version 3.00 does not have: version 4's fields, and checks by piece.

use super::*;
use crate::samples::{self, dict, numbers, pieces};
use shoal_metainfo::bencode::Bencode;

fn with_progress(progress: Bencode) -> Imported {
    let resume = dict([
        ("destination", "/srv".into()),
        ("incomplete-dir", "/tmp".into()),
        ("progress", progress),
    ]);
    torrent(&samples::torrent(), Some(&resume.encode())).unwrap()
}

#[test]
fn version_4_says_which_pieces_were_checked() {
    let of = |pieces: &[u8]| {
        let mtimes = numbers(&[50, 60]);
        let progress = [
            ("blocks", "all".into()),
            ("mtimes", mtimes),
            ("pieces", pieces.into()),
        ];
        with_progress(dict(progress))
    };
    let all = of(b"all");
    assert_eq!(all.have, Have::All);
    assert_eq!(
        (all.folder.as_path(), &all.completed_folder),
        (Path::new("/srv"), &None)
    );
    let modified = all.stamps.values().map(|stamp| stamp.modified);
    assert!(modified.eq([Some(Modified::At(50)), Some(Modified::At(60))]));
    assert_eq!(pieces(&of(&[0b1010_0000]).have), (vec![0, 2], vec![1]));
    assert_eq!(of(b"none").have, Have::Unknown);
    assert_eq!(of(b"of another length").have, Have::Unknown);
}

#[test]
fn a_piece_is_there_when_all_its_blocks_are() {
    // Five blocks: two in each of the first two pieces, and a short one.
    let of = |bits: u8| {
        let checked = numbers(&[50, 50]);
        with_progress(dict([
            ("blocks", vec![bits].into()),
            ("time-checked", checked),
        ]))
        .have
    };
    assert_eq!(pieces(&of(0b1101_1000)), (vec![0, 2], vec![]));
    assert_eq!(of(0b1111_1000), Have::All);
    assert_eq!(of(0b0101_0000), Have::None);
}

#[test]
fn times_by_piece_leave_out_those_that_were_never_checked() {
    let second = numbers(&[99, 0, 3]);
    let checked = Bencode::List(vec![70i64.into(), second]);
    let imported = with_progress(dict([("blocks", "all".into()), ("time-checked", checked)]));
    assert_eq!(pieces(&imported.have), (vec![0, 2], vec![1]));
    let modified = imported.stamps.values().map(|stamp| stamp.modified);
    assert!(modified.eq([Some(Modified::NotAfter(70)), Some(Modified::NotAfter(102))]));
}

#[test]
fn without_times_everything_is_checked() {
    let imported = with_progress(dict([("blocks", "all".into())]));
    assert_eq!((imported.have, imported.stamps.len()), (Have::Unknown, 0));
    let imported = with_progress(dict([]));
    assert_eq!(
        (imported.have, imported.notes),
        (Have::Unknown, vec![Note::NoPieces])
    );
}

#[test]
fn keys_of_the_next_version_mean_the_same() {
    let resume = dict([
        ("added_date", 5i64.into()),
        (
            "seed_ratio_limit",
            dict([
                ("ratio_mode", 1i64.into()),
                ("seed_ratio_limit", "2.5".into()),
            ]),
        ),
        (
            "speed_limit_up",
            dict([
                ("speed_Bps", 10i64.into()),
                ("use_speed_limit", 1i64.into()),
            ]),
        ),
    ]);
    let imported = torrent(&samples::torrent(), Some(&resume.encode())).unwrap();
    assert_eq!(imported.added_at, Some(5));
    assert_eq!(imported.share_limits.ratio, Limit::At(2.5));
    assert_eq!(imported.upload_bytes_per_s, Some(10));
}

#[test]
fn a_magnet_of_version_4_is_a_link() {
    let link = format!("magnet:?xt=urn:btih:{}\n", "ab".repeat(20));
    let imported = magnet(link.as_bytes(), None).unwrap();
    assert_eq!(
        imported.info_hashes().primary().to_string(),
        "ab".repeat(20)
    );
    assert_eq!(imported.have, Have::None);
}

#[test]
fn a_file_that_was_downloaded_is_as_old_as_its_last_piece_and_may_have_been_flushed_after() {
    // Two pieces in each file, the second of the first file at the end.
    let by_piece = |times: [i64; 3]| numbers(&times);
    let of = |blocks: Bencode| {
        let checked = Bencode::List(vec![by_piece([100, 1, 9]), by_piece([100, 9, 9])]);
        with_progress(dict([("blocks", blocks), ("time-checked", checked)]))
    };
    let bounds = |imported: &Imported| {
        let stamps = imported.stamps.values();
        let bounds = stamps.map(|stamp| stamp.modified.unwrap());
        bounds.collect::<Vec<_>>()
    };
    let (flushed, exact) = (109 + FLUSH_WITHIN_S, 109);
    let mut whole = of("all".into());
    assert_eq!(whole.have, Have::All);
    let expected = [Modified::NotAfter(flushed), Modified::NotAfter(exact)];
    assert_eq!(bounds(&whole), expected);
    whole.written_until(Some(5_000));
    assert_eq!(
        bounds(&whole),
        expected,
        "nothing is written to what is complete"
    );
    // The last piece is not there: the second file was written to until the end.
    let mut part = of(vec![0b1111_0000u8].into());
    part.written_until(Some(5_000));
    let expected = [Modified::NotAfter(flushed), Modified::NotAfter(5_000)];
    assert_eq!(bounds(&part), expected);
}
