//! What the recorded session does not have: files that are not there, active torrents, folders of another name.

use super::*;
use crate::samples::{self, dict, pieces};
use shoal_metainfo::bencode::Bencode;

fn resumed(bitfield: Bencode, times: [Option<i64>; 2], uncertain: &[u8]) -> Have {
    let file = |time: Option<i64>| Bencode::dict(time.map(|time| ("mtime", time.into())));
    let files = times.into_iter().map(file).collect::<Vec<_>>();
    let resume = dict([
        ("bitfield", bitfield),
        ("files", files.into()),
        ("uncertain_pieces", uncertain.into()),
    ]);
    let settings = dict([("directory", "/srv/pack".into())]);
    let (settings, resume) = (settings.encode(), resume.encode());
    torrent(&samples::torrent(), Some(&settings), Some(&resume))
        .unwrap()
        .have
}

#[test]
fn whole_torrents_are_counted_and_others_have_bits() {
    let times = [Some(9), Some(9)];
    assert_eq!(resumed(3i64.into(), times, b""), Have::All);
    assert_eq!(resumed(0i64.into(), times, b""), Have::None);
    assert_eq!(resumed(2i64.into(), times, b""), Have::Unknown);
    let bits = Bencode::from(vec![0b1010_0000u8]);
    assert_eq!(pieces(&resumed(bits, times, b"")), (vec![0, 2], vec![]));
    assert_eq!(resumed(vec![0u8; 2].into(), times, b""), Have::Unknown);
}

#[test]
fn files_that_are_gone_have_nothing_and_files_without_a_time_are_checked() {
    let of = |time| pieces(&resumed(3i64.into(), [Some(9), time], b""));
    assert_eq!(of(Some(!0)), (vec![0], vec![]));
    assert_eq!(of(Some(!1)), (vec![0], vec![]));
    assert_eq!(of(Some(!2)), (vec![0], vec![1, 2]));
    assert_eq!(of(None), (vec![0], vec![1, 2]));
}

#[test]
fn of_an_active_torrent_only_what_came_last_is_checked() {
    let times = [Some(!3), Some(!3)];
    let uncertain = [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0];
    assert_eq!(
        pieces(&resumed(3i64.into(), times, &uncertain)),
        (vec![0, 2], vec![1])
    );
}

#[test]
fn a_folder_with_another_name_is_where_the_files_are() {
    let settings = dict([("directory", "/srv/another name".into())]).encode();
    let imported = torrent(&samples::torrent(), Some(&settings), None).unwrap();
    assert_eq!(imported.folder, Path::new("/srv"));
    assert!(
        imported
            .paths
            .values()
            .eq(["another name/a", "another name/sub/b"])
    );
    assert_eq!(imported.notes, [Note::NoResumeData]);
}

#[test]
fn names_that_we_make_safe_are_found_as_the_torrent_has_them() {
    let info = dict([
        ("length", 1i64.into()),
        ("name", "what now.".into()),
        ("piece length", 32_768i64.into()),
        ("pieces", vec![7u8; 20].into()),
    ]);
    let settings = dict([("directory", "/srv".into())]).encode();
    let file = dict([("info", info)]).encode();
    let imported = torrent(&file, Some(&settings), None).unwrap();
    assert_eq!(imported.folder, Path::new("/srv"));
    assert!(imported.paths.values().eq(["what now."]));
}

#[test]
fn labels_are_unescaped_and_other_percent_signs_stay() {
    assert_eq!(unescaped(b"films%20%c3%a4 100%"), "films ä 100%".as_bytes());
    assert_eq!(unescaped(b"%+1%zz%4"), b"%+1%zz%4");
}
