//! Torrents and magnet links as events.

use shoal_metainfo::{File, InfoHashes, Magnet, Metainfo};

use crate::args::numbered;
use crate::output::event::{MagnetEvent, TorrentEvent, TorrentFile};

/// The word for which protocols a torrent is for.
pub(super) fn kind(hashes: &InfoHashes) -> &'static str {
    match (hashes.v1(), hashes.v2()) {
        (Some(_), Some(_)) => "hybrid",
        (None, Some(_)) => "v2",
        _ => "v1",
    }
}

/// Both info hashes in full.
pub(super) fn info_hashes(hashes: &InfoHashes) -> (Option<String>, Option<String>) {
    let v1 = hashes.v1().map(|hash| hash.to_string());
    (v1, hashes.v2().map(|hash| hash.to_string()))
}

/// What the files hold together, without padding.
pub(super) fn size_bytes(files: &[File]) -> u64 {
    let content = files.iter().filter(|file| !file.padding);
    content.map(|file| file.length).sum()
}

/// What is in a torrent. Padding is listed only if `all`.
pub(super) fn torrent(metainfo: &Metainfo, all: bool) -> TorrentEvent {
    let (info_hash_v1, info_hash_v2) = info_hashes(&metainfo.info_hashes());
    let tier = |tier: &Vec<shoal_metainfo::metainfo::TrackerUrl>| {
        tier.iter().map(|tracker| tracker.url.clone()).collect()
    };
    TorrentEvent {
        name: metainfo.name().to_owned(),
        kind: kind(&metainfo.info_hashes()),
        info_hash_v1,
        info_hash_v2,
        size_bytes: size_bytes(metainfo.files()),
        piece_length_bytes: metainfo.layout().piece_length(),
        piece_count: metainfo.layout().piece_count(),
        files: files(metainfo, all),
        trackers: metainfo.trackers().iter().map(tier).collect(),
        web_seeds: metainfo.web_seeds().to_vec(),
        private: metainfo.is_private(),
        source: metainfo.source().map(str::to_owned),
        comment: metainfo.comment().map(str::to_owned),
        created_by: metainfo.created_by().map(str::to_owned),
        creation_date_unix_s: metainfo.creation_date(),
        magnet: Magnet::from(metainfo).to_string(),
        warnings: metainfo
            .warnings()
            .iter()
            .map(ToString::to_string)
            .collect(),
    }
}

fn files(metainfo: &Metainfo, all: bool) -> Vec<TorrentFile> {
    let mut numbers = numbered(metainfo.files()).peekable();
    let describe = |(index, file): (usize, &File)| TorrentFile {
        number: numbers
            .next_if(|(_, of)| *of == index)
            .map(|(number, _)| number),
        path: file.path.clone(),
        size_bytes: file.length,
        padding: file.padding,
        executable: file.executable,
        symlink: file.symlink.clone(),
    };
    let files = metainfo.files().iter().enumerate().map(describe);
    files.filter(|file| all || !file.padding).collect()
}

/// What is in a magnet link.
pub(super) fn magnet(magnet: &Magnet) -> MagnetEvent {
    let (info_hash_v1, info_hash_v2) = info_hashes(&magnet.info_hashes);
    let range = |range: &std::ops::RangeInclusive<u32>| match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{}-{}", range.start(), range.end()),
    };
    let selected = |ranges: &Vec<_>| ranges.iter().map(range).collect::<Vec<_>>().join(",");
    MagnetEvent {
        name: magnet.name.clone(),
        kind: kind(&magnet.info_hashes),
        info_hash_v1,
        info_hash_v2,
        size_bytes: magnet.length,
        trackers: magnet
            .trackers
            .iter()
            .map(|tracker| tracker.url.clone())
            .collect(),
        web_seeds: magnet.web_seeds.clone(),
        peers: magnet
            .peers
            .iter()
            .map(|peer| format!("{}:{}", peer.host, peer.port))
            .collect(),
        selected: magnet.selected.as_ref().map(selected),
        warnings: magnet.warnings.iter().map(ToString::to_string).collect(),
    }
}
