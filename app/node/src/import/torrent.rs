//! What a torrent of another client is in this session: pure.
//!
//! Invariant: what cannot be said in this session is told to whoever asked for it, and nothing else is made up.

use crate::values;
use shoal_import::{Have, Imported, Limit, Modified, Note, Priority, Run, Torrent};
use shoal_metainfo::metainfo::{Limits, TrackerUrl};
use shoal_metainfo::{Bitfield, FileIndex, Metainfo, PieceIndex};
use shoal_session::rules::{CategoryName, Rules, TagName, Told};
use shoal_storage::{Adopted, Claims, Stamp};
use shoal_store::{Past, TorrentOptions, Totals, Wish};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The priority of files that come before others.
const HIGH: u8 = 2;

/// More tags than a torrent of this session can have.
const MAX_TAGS: usize = 64;

/// What is said of the client's pieces and files, of a torrent whose metainfo is known.
pub(super) fn claims(imported: &Imported, metainfo: &Metainfo) -> Claims {
    let pieces = metainfo.layout().piece_count();
    let (all, none) = (|| Bitfield::full(pieces), || Bitfield::empty(pieces));
    let (verified, doubtful) = match &imported.have {
        Have::All => (all(), none()),
        Have::None => (none(), none()),
        Have::Pieces { verified, doubtful } => (verified.clone(), doubtful.clone()),
        Have::Unknown => (none(), all()),
    };
    let files = (0..).map(FileIndex).zip(metainfo.files());
    // Links are no content.
    let files = files.filter(|(_, file)| file.symlink.is_none());
    Claims {
        verified,
        doubtful,
        stamps: files.map(|(file, _)| stamp(imported, file)).collect(),
        unfinished_suffix: imported.unfinished_suffix.map(str::to_owned),
    }
}

fn stamp(imported: &Imported, file: FileIndex) -> Stamp {
    let stamp = imported.stamps.get(&file).copied().unwrap_or_default();
    Stamp {
        length: stamp.length,
        modified: stamp.modified.map(|modified| match modified {
            Modified::At(time) => shoal_storage::Modified::At(time),
            Modified::NotAfter(time) => shoal_storage::Modified::NotAfter(time),
        }),
    }
}

/// For each file whether it is wanted; `None` is all.
pub(super) fn selection(imported: &Imported, metainfo: &Metainfo) -> Option<Vec<bool>> {
    let skipped = |file| imported.priorities.get(&file) == Some(&Priority::Skip);
    let files = (0..).map(FileIndex).take(metainfo.files().len());
    let wanted: Vec<bool> = files.map(|file| !skipped(file)).collect();
    wanted.contains(&false).then_some(wanted)
}

/// The files that are not where the metainfo has them, with the components of their paths.
pub(super) fn renamed(imported: &Imported) -> BTreeMap<u32, Vec<String>> {
    let paths = imported.paths.iter();
    let parts = |path: &String| path.split('/').map(str::to_owned).collect();
    paths.map(|(file, path)| (file.0, parts(path))).collect()
}

/// What it came to at the client, where `selection` is wanted and `adopted` came of what it said of its pieces: `None` is what was known
/// here before.
pub(super) fn past(
    imported: &Imported,
    metainfo: &Metainfo,
    selection: Option<&[bool]>,
    claims: &Claims,
    adopted: Option<&Adopted>,
    now: i64,
) -> Past {
    let layout = metainfo.layout();
    let mut wanted = Bitfield::empty(layout.piece_count());
    for (index, file) in (0..).map(FileIndex).zip(metainfo.files()) {
        let selected = selection.is_none_or(|all| all.get(index.get()) != Some(&false));
        if selected && !file.padding && file.symlink.is_none() {
            for piece in metainfo.pieces_of(index) {
                wanted.insert(PieceIndex(piece));
            }
        }
    }
    let mut verified = match adopted {
        Some(_) => claims.verified.clone(),
        None => Bitfield::empty(layout.piece_count()),
    };
    for &piece in adopted.iter().flat_map(|adopted| &adopted.withheld) {
        verified.remove(piece);
    }
    let is_lost = adopted.is_some_and(|adopted| adopted.lost > 0);
    let is_whole = !is_lost && wanted.difference(&claims.verified).next().is_none();
    let completed_at = imported.completed_at.or(imported.added_at);
    let bytes = |piece| u64::from(layout.length_of(piece));
    let there = wanted.iter().filter(|piece| verified.get(*piece));
    Past {
        // Some clients do not say when; it is not complete only now.
        completed_at: is_whole.then(|| completed_at.unwrap_or(now)),
        totals: Totals {
            wanted_bytes: wanted.iter().map(bytes).sum(),
            verified_bytes: there.map(bytes).sum(),
            downloaded_bytes: imported.downloaded_bytes,
            uploaded_bytes: imported.uploaded_bytes,
        },
        seeding_s: imported.seeding_s,
    }
}

/// What a magnet link came to.
pub(super) fn past_of_link(imported: &Imported) -> Past {
    Past {
        totals: Totals {
            downloaded_bytes: imported.downloaded_bytes,
            uploaded_bytes: imported.uploaded_bytes,
            ..Totals::default()
        },
        ..Past::default()
    }
}

/// Whether it runs.
pub(super) const fn wish(imported: &Imported) -> Wish {
    match imported.run {
        Run::Paused => Wish::Paused,
        Run::Queued => Wish::Queued,
        Run::Forced => Wish::Forced,
    }
}

/// The .torrent file with the trackers in it that the client keeps beside it, as qBittorrent does, and what it says then. These are the torrent's
/// word and no person's: where an address may lead depends on that. `None` where it has trackers of its own.
pub(super) fn with_trackers(imported: &Imported) -> Option<(Vec<u8>, Metainfo)> {
    let Torrent::File { bytes, metainfo } = &imported.torrent else {
        return None;
    };
    let tiers = imported
        .trackers
        .as_ref()
        .filter(|tiers| !tiers.is_empty())?;
    if !metainfo.trackers().is_empty() {
        return None;
    }
    let (b'd', rest) = bytes.split_first()? else {
        return None;
    };
    let mut whole = b"d13:announce-listl".to_vec();
    for tier in tiers {
        whole.push(b'l');
        for tracker in tier {
            let url = &tracker.url;
            whole.extend(format!("{}:{url}", url.len()).into_bytes());
        }
        whole.push(b'e');
    }
    whole.push(b'e');
    whole.extend(rest);
    // Where other keys come first, it is none.
    let found = Metainfo::parse(&whole, Limits::LOCAL).ok()?;
    (found.info_hashes() == metainfo.info_hashes()).then_some((whole, found))
}

/// What it was told. What cannot be told here is added to `notes`.
pub(super) fn options(imported: &Imported, notes: &mut Vec<String>) -> TorrentOptions {
    let high = imported.priorities.iter();
    let high = high.filter(|(_, priority)| **priority == Priority::High);
    TorrentOptions {
        name: name(imported, notes),
        category: category(imported, notes),
        tags: tags(imported, notes),
        rules: rules(imported),
        first_last: imported.first_last_first,
        super_seed: imported.super_seeding,
        priorities: high.map(|(file, _)| (file.0, HIGH)).collect(),
        trackers: trackers(imported),
        web_seeds: web_seeds(imported, notes),
        renamed: renamed(imported),
        ..TorrentOptions::default()
    }
}

fn name(imported: &Imported, notes: &mut Vec<String>) -> Option<String> {
    let name = imported.name.clone()?;
    if name.chars().any(char::is_control) {
        notes
            .push("its name there is more than one line, and the torrent's own is used".to_owned());
        return None;
    }
    Some(name)
}

fn category(imported: &Imported, notes: &mut Vec<String>) -> Option<String> {
    let name = imported.category.as_ref()?;
    match name.parse::<CategoryName>() {
        Ok(name) => Some(name.as_str().to_owned()),
        Err(error) => {
            notes.push(format!("it is not in its category {name:?}: {error}"));
            None
        }
    }
}

fn tags(imported: &Imported, notes: &mut Vec<String>) -> BTreeSet<String> {
    let mut tags = BTreeSet::new();
    for name in &imported.tags {
        match name.parse::<TagName>() {
            Ok(_) if tags.len() >= MAX_TAGS => {
                notes.push(format!(
                    "it does not have its tag {name:?}: {MAX_TAGS} are the most"
                ));
            }
            Ok(name) => drop(tags.insert(name.as_str().to_owned())),
            Err(error) => notes.push(format!("it does not have its tag {name:?}: {error}")),
        }
    }
    tags
}

fn rules(imported: &Imported) -> Rules {
    let rate = |rate: Option<u64>| rate.map_or(Told::Inherit, Told::Some);
    let limits = &imported.share_limits;
    Rules {
        down_bytes_per_s: rate(imported.download_bytes_per_s),
        up_bytes_per_s: rate(imported.upload_bytes_per_s),
        ratio_permille: match limits.ratio {
            Limit::Inherited => Told::Inherit,
            Limit::Unlimited => Told::None,
            // Thousandths are what a person can say.
            Limit::At(ratio) => match values::parse_permille(&format!("{ratio:.3}")) {
                Ok(permille) => Told::Some(permille),
                Err(_) => Told::None,
            },
        },
        seed_time_s: told(limits.seeding_s),
        idle_time_s: told(limits.idle_s),
        ..Rules::default()
    }
}

const fn told(limit: Limit<u64>) -> Told<u64> {
    match limit {
        Limit::Inherited => Told::Inherit,
        Limit::Unlimited => Told::None,
        Limit::At(seconds) => Told::Some(seconds),
    }
}

fn trackers(imported: &Imported) -> Option<Vec<Vec<String>>> {
    let tiers = imported.trackers.as_ref()?.iter();
    let urls = |tier: &Vec<TrackerUrl>| tier.iter().map(|tracker| tracker.url.clone()).collect();
    Some(tiers.map(urls).collect())
}

/// Those besides the torrent's own.
fn web_seeds(imported: &Imported, notes: &mut Vec<String>) -> Vec<String> {
    let Some(urls) = &imported.web_seeds else {
        return Vec::new();
    };
    let own = imported.metainfo().map_or(&[][..], Metainfo::web_seeds);
    if own.iter().any(|url| !urls.contains(url)) {
        notes.push("web seeds of the torrent that were removed there are asked again".to_owned());
    }
    let others = urls.iter().filter(|url| !own.contains(url));
    others.cloned().collect()
}

/// What a person calls it.
pub(super) fn shown_name(imported: &Imported) -> String {
    let own = match &imported.torrent {
        Torrent::File { metainfo, .. } => Some(metainfo.name().to_owned()),
        Torrent::Magnet(magnet) => magnet.name.clone(),
    };
    let name = imported.name.clone().or(own);
    name.unwrap_or_else(|| imported.info_hashes().primary().to_string())
}

/// What the client could not say, but where its content is: that is looked for.
pub(super) fn notes(imported: &Imported) -> Vec<String> {
    let of_folder = |note: &&Note| !matches!(note, Note::NoFolder | Note::FolderElsewhere(_));
    let notes = imported.notes.iter().filter(of_folder);
    notes.map(ToString::to_string).collect()
}

/// Where its content may be, the likeliest first, and where it goes when it is complete.
pub(super) fn folders(imported: &Imported, moved: &[(PathBuf, PathBuf)]) -> Vec<PathBuf> {
    let folders = std::iter::once(&imported.folder).chain(&imported.completed_folder);
    let folders = folders.filter(|folder| !folder.as_os_str().is_empty());
    folders.map(|folder| settled(folder, moved)).collect()
}

/// Where `folder` is by now.
fn settled(folder: &Path, moved: &[(PathBuf, PathBuf)]) -> PathBuf {
    let mut places = moved
        .iter()
        .filter_map(|(old, new)| below(folder, old, new));
    places.next().unwrap_or_else(|| folder.to_owned())
}

/// The place below `new` that `folder` has below `old`.
fn below(folder: &Path, old: &Path, new: &Path) -> Option<PathBuf> {
    if let Ok(rest) = folder.strip_prefix(old) {
        return Some(new.join(rest));
    }
    // Windows separates with both, and takes capitals for small letters.
    let (folder, old) = (folder.to_str()?, old.to_str()?);
    if !old.contains(['\\', ':']) {
        return None;
    }
    let (folder, old) = (folder.replace('\\', "/"), old.replace('\\', "/"));
    let old = old.trim_end_matches('/');
    let head = folder.get(..old.len())?;
    let rest = &folder[old.len()..];
    let fits = head.eq_ignore_ascii_case(old) && (rest.is_empty() || rest.starts_with('/'));
    fits.then(|| new.join(rest.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_import::{Client, Session};

    /// What real clients wrote, by the beginning of the info hash.
    fn written(client: Client, folder: &str, hash: &str) -> Imported {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR"));
        let fixtures = fixtures.join("../../system/import/tests/fixtures");
        let mut session = Session::open(client, &fixtures.join(folder)).unwrap();
        let is_meant = |torrent: &Imported| {
            let hash_of = torrent.info_hashes().primary().to_string();
            hash_of.starts_with(hash)
        };
        session
            .find_map(|torrent| torrent.ok().filter(is_meant))
            .unwrap()
    }

    #[test]
    fn what_another_client_was_told_is_told_here() {
        let imported = written(Client::QBittorrent, "qbittorrent", "b57d6d4e");
        let metainfo = imported.metainfo().unwrap();
        let at = |path: &str| {
            let mut files = (0..).zip(metainfo.files());
            files
                .find(|(_, file)| file.path == path)
                .map(|(at, _)| at)
                .unwrap()
        };
        let mut notes = Vec::new();
        let options = options(&imported, &mut notes);
        assert_eq!(notes, [""; 0]);
        assert_eq!(options.name.as_deref(), Some("My pack"));
        assert_eq!(options.category.as_deref(), Some("films"));
        assert!(options.tags.iter().eq(["good", "old"]));
        let rules = Rules {
            down_bytes_per_s: Told::Some(20_480),
            up_bytes_per_s: Told::Some(10_240),
            ratio_permille: Told::Some(1_500),
            seed_time_s: Told::Some(90 * 60),
            ..Rules::default()
        };
        assert_eq!(options.rules, rules);
        assert_eq!(options.priorities, BTreeMap::from([(at("a.bin"), HIGH)]));
        let path = ["pack", "other", "b renamed.bin"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(options.renamed, BTreeMap::from([(at("sub/b.bin"), path)]));
        let tiers = options.trackers.unwrap();
        assert_eq!(tiers[0].len(), 2);
        let (_, found) = with_trackers(&imported).unwrap();
        let own = found.trackers().iter();
        let own = own.map(|tier| tier.iter().map(|tracker| tracker.url.clone()).collect());
        assert_eq!(own.collect::<Vec<Vec<String>>>(), tiers);
        assert_eq!(options.web_seeds, ["http://seed.example/files/"]);
        assert_eq!(wish(&imported), Wish::Paused);
        let selection = selection(&imported, metainfo).unwrap();
        let unwanted = (0..).zip(&selection).filter(|(_, wanted)| !**wanted);
        assert!(unwanted.map(|(at, _)| at).eq([at("c.txt")]));

        let claims = claims(&imported, metainfo);
        assert_eq!((claims.verified.count(), claims.doubtful.count()), (3, 0));
        assert_eq!(claims.stamps.len(), metainfo.files().len());
        let bound = |stamp: &Stamp| {
            let modified = stamp.modified;
            matches!(modified, Some(shoal_storage::Modified::NotAfter(_)))
        };
        assert!(
            claims.stamps.iter().all(bound),
            "its resume data is the bound"
        );
        let adopted = Adopted {
            verified: 2,
            withheld: vec![PieceIndex(1)],
            ..Adopted::default()
        };
        let past = past(
            &imported,
            metainfo,
            Some(&selection),
            &claims,
            Some(&adopted),
            9,
        );
        assert_eq!(
            past.completed_at, None,
            "a piece of what is wanted was never there"
        );
        assert_eq!(past.totals.wanted_bytes, metainfo.layout().total_length());
        assert_eq!(past.totals.verified_bytes, 2 * 32 * 1024);
    }

    #[test]
    fn what_was_complete_is_complete_unless_it_is_lost() {
        let imported = written(Client::QBittorrent, "qbittorrent", "b256e4dd");
        let metainfo = imported.metainfo().unwrap();
        let claims = claims(&imported, metainfo);
        let completed_at = |adopted: &Adopted| {
            past(&imported, metainfo, None, &claims, Some(adopted), 9).completed_at
        };
        assert_eq!(completed_at(&Adopted::default()), Some(1_795_471_505));
        let lost = Adopted {
            lost: 1,
            withheld: vec![PieceIndex(0)],
            ..Adopted::default()
        };
        assert_eq!(completed_at(&lost), None);
    }

    #[test]
    fn names_that_commands_could_not_name_are_left_out_and_told() {
        let mut imported = written(Client::Transmission, "transmission", "b57d6d4e");
        imported.tags = vec!["a,b".to_owned(), "fine".to_owned()];
        imported.category = Some("none".to_owned());
        imported.name = Some("two\nlines".to_owned());
        let mut notes = Vec::new();
        let options = options(&imported, &mut notes);
        assert!(options.tags.iter().eq(["fine"]));
        assert_eq!((options.category, options.name), (None, None));
        assert_eq!(notes.len(), 3, "{notes:?}");
    }

    #[test]
    fn a_folder_is_below_the_first_one_that_fits() {
        let pair = |old: &str, new: &str| (PathBuf::from(old), PathBuf::from(new));
        let moved = [
            pair("/old/films", "/films"),
            pair("/old", "/new"),
            pair(r"C:\Users\Me", "/home/me"),
        ];
        for (folder, expected) in [
            ("/old/films/short", "/films/short"),
            ("/old/music/", "/new/music"),
            ("/older", "/older"),
            (r"c:\users\me\Downloads\a", "/home/me/Downloads/a"),
            ("C:/Users/Me", "/home/me"),
            (r"C:\Users\Meg", r"C:\Users\Meg"),
        ] {
            assert_eq!(
                settled(Path::new(folder), &moved),
                Path::new(expected),
                "{folder}"
            );
        }
    }
}
