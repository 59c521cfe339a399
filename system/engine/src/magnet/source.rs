//! A .torrent file that a magnet link names (`xs`), so that its metainfo is there where no peer is.
//!
//! Invariant: of the file only what the link's info hashes vouch for is taken: its info dictionary and piece layers. Trackers and other
//! addresses in it are anybody's word.

use bytes::Bytes;
use shoal_metainfo::metainfo::Limits;
use shoal_metainfo::{FileIndex, Metainfo};
use shoal_swarm::metadata::search::Found;
use shoal_transport::{HttpLimits, OriginClass, Transport};
use url::Url;

/// What the file at `url` says, `None` where it cannot be had or read; the log says why, and names no more than the site.
pub(super) async fn fetch(transport: Transport, url: String) -> Option<Found> {
    let url: Url = url.parse().ok()?;
    let site = url.origin().ascii_serialization();
    let limits = HttpLimits::file(Limits::REMOTE.bytes);
    let reply = transport
        .http()
        .get(url, OriginClass::Metainfo, limits)
        .await;
    let reply = reply.inspect_err(|error| tracing::debug!(site, %error, "no torrent file"));
    let reply = reply.ok()?;
    if reply.status != 200 {
        tracing::debug!(site, status = reply.status, "no torrent file");
        return None;
    }
    let metainfo = Metainfo::parse(&reply.body, Limits::REMOTE);
    let metainfo = metainfo.inspect_err(|error| tracing::debug!(site, %error, "no torrent file"));
    metainfo.ok().map(|metainfo| found_in(&metainfo))
}

fn found_in(metainfo: &Metainfo) -> Found {
    let files = (0..).map(FileIndex).zip(metainfo.files());
    let layers = files.filter_map(|(index, file)| {
        let layer = metainfo.piece_layer(index);
        Some((file.root?, layer)).filter(|(_, layer)| !layer.is_empty())
    });
    Found {
        layers: layers.collect(),
        info: Bytes::copy_from_slice(metainfo.raw_info()),
        v1_only: false,
    }
}
