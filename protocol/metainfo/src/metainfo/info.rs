//! The info dictionary: what the info hash covers.

use super::error::{Error, HybridMismatch, Warning};
use super::list::{self, Listed};
use super::{File, pieces};
use crate::bencode::Value;
use crate::geometry::{BLOCK_LENGTH, Layout, LayoutError, MAX_PIECE_LENGTH};
use crate::names::{self, Names, Resolved};
use crate::verifier::Verifier;

/// Everything that follows from an info dictionary and the piece layers.
pub(super) struct Info {
    pub(super) v1: bool,
    pub(super) v2: bool,
    pub(super) name: String,
    /// The name as the torrent has it, where that is another.
    pub(super) raw_name: Option<Box<[u8]>>,
    pub(super) folder: bool,
    pub(super) files: Vec<File>,
    pub(super) layout: Layout,
    pub(super) verifier: Verifier,
    pub(super) private: bool,
    pub(super) source: Option<String>,
}

/// Whether there is a v1 part, and whether there is a v2 part.
pub(super) fn parts(info: Value<'_>) -> Result<(bool, bool), Error> {
    let v2 = is_v2(info)?;
    let v1 = !v2
        || ["pieces", "files", "length"]
            .iter()
            .any(|key| info.get(key).is_some());
    Ok((v1, v2))
}

/// Where `v1_only`, a v2 part counts for nothing.
pub(super) fn parse(
    info: Value<'_>,
    layers: Option<Value<'_>>,
    v1_only: bool,
    warnings: &mut Vec<Warning>,
) -> Result<Info, Error> {
    // First of all: in a newer version, nothing else need mean what it means here.
    let (v1, v2) = parts(info)?;
    let (v1, v2) = (v1 || v1_only, v2 && !v1_only);
    match info.unsorted() {
        Some(offset) if v2 => return Err(Error::UnsortedV2(offset)),
        Some(offset) => warnings.push(Warning::UnsortedInfo(offset)),
        None => {}
    }
    let piece_length = piece_length(info, v2)?;
    let name = list::name(info)?;
    names::refuse_climbing(name)?;

    let mut names = Names::new();
    let (files, folder) = list_files(info, (v1, v2), piece_length, &mut names)?;
    if files.iter().all(|file| file.place.is_none()) {
        return Err(Error::NoFiles);
    }

    // Files of a v2-only torrent begin at pieces of their own; the v1 part of a hybrid has padding for that.
    let aligned = !v1;
    let layout = layout(&files, piece_length, aligned)?;
    let v1_pieces = v1.then(|| pieces::v1(info, &layout)).transpose()?;
    let v2_pieces = v2
        .then(|| pieces::v2(&files, layers, &layout, &names, warnings))
        .transpose()?;
    let verifier = match (v1_pieces, v2_pieces) {
        (Some(v1), Some(v2)) => {
            let count = u32::try_from(v2.0.len()).unwrap_or(u32::MAX);
            if count != layout.piece_count() {
                let v1 = layout.piece_count();
                return Err(HybridMismatch::PieceCount { v1, v2: count }.into());
            }
            Verifier::Hybrid(v1, v2)
        }
        (Some(v1), None) => Verifier::V1(v1),
        (None, Some(v2)) => Verifier::V2(v2),
        (None, None) => return Err(Error::Missing("pieces")),
    };
    let safe_name = names::sanitise(name);
    if safe_name.as_bytes() != name {
        warnings.push(Warning::SanitisedName(safe_name.clone()));
    }
    let raw_name = (safe_name.as_bytes() != name).then(|| Box::from(name));
    Ok(Info {
        v1,
        v2,
        name: safe_name,
        raw_name,
        folder,
        files: place(files, names, piece_length, aligned, warnings)?,
        layout,
        verifier,
        private: info
            .get("private")
            .and_then(|private| private.as_int())
            .unwrap_or(0)
            != 0,
        source: super::shown_text(info, "source", warnings),
    })
}

/// The files of the parts that there are, joined, and whether they are in a folder.
fn list_files<'a>(
    info: Value<'a>,
    (v1, v2): (bool, bool),
    piece_length: u32,
    names: &mut Names<'a>,
) -> Result<(Vec<Listed<'a>>, bool), Error> {
    let v2_files = match info.get("file tree") {
        Some(tree) if v2 => list::v2(tree, names)?,
        _ => Vec::new(),
    };
    if !v1 {
        let folder = !is_single_file(&v2_files);
        return Ok((v2_files, folder));
    }
    let mut files = list::v1(info, names)?;
    if v2 {
        pieces::join_hybrid(&mut files, &v2_files, piece_length, names)?;
    }
    Ok((files, info.get("files").is_some()))
}

fn is_v2(info: Value<'_>) -> Result<bool, Error> {
    let tree = info.get("file tree").is_some();
    let Some(version) = info.get("meta version") else {
        // Whoever writes a file tree means it: to read the rest as v1 would be to guess.
        return if tree {
            Err(Error::Missing("meta version"))
        } else {
            Ok(false)
        };
    };
    match version.as_int() {
        Some(1) if !tree => Ok(false),
        Some(2) if tree => Ok(true),
        Some(2) => Err(Error::Missing("file tree")),
        Some(newer) if newer > 2 => Err(Error::NewerVersion(newer)),
        _ => Err(Error::Malformed {
            field: "meta version",
            expected: "1 or, with a file tree, 2",
        }),
    }
}

pub(super) fn piece_length(info: Value<'_>, v2: bool) -> Result<u32, Error> {
    let length = info
        .get("piece length")
        .ok_or(Error::Missing("piece length"))?;
    let length = length.as_int().ok_or(Error::Malformed {
        field: "piece length",
        expected: "an integer",
    })?;
    let refused = if v2 {
        Error::PieceLengthV2(length)
    } else {
        Error::PieceLength(length)
    };
    match u32::try_from(length) {
        Ok(0) | Err(_) => Err(refused),
        Ok(length) if length > MAX_PIECE_LENGTH => Err(refused),
        Ok(length) if v2 && (length < BLOCK_LENGTH || !length.is_power_of_two()) => Err(refused),
        Ok(length) => Ok(length),
    }
}

/// Whether a file tree holds one file that is in no directory: then the torrent is that file and has no folder.
fn is_single_file(files: &[Listed<'_>]) -> bool {
    matches!(files, [Listed { place: Some(place), .. }] if place.directory == Names::ROOT)
}

pub(super) fn layout(
    files: &[Listed<'_>],
    piece_length: u32,
    aligned: bool,
) -> Result<Layout, LayoutError> {
    let mut lengths = files.iter().map(|file| file.length);
    if aligned {
        return Layout::aligned(lengths, piece_length);
    }
    let total = lengths.try_fold(0u64, u64::checked_add);
    Layout::contiguous(total.ok_or(LayoutError::TooLong)?, piece_length)
}

/// Gives each file its path and its place in the address space, whose size the layout has checked.
fn place(
    files: Vec<Listed<'_>>,
    names: Names<'_>,
    piece_length: u32,
    aligned: bool,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<File>, Error> {
    let places: Vec<_> = files.iter().filter_map(|file| file.place).collect();
    let mut paths = names.resolve(&places)?.into_iter();
    let mut offset = 0u64;
    let (mut placed, mut sanitised) = (Vec::<File>::with_capacity(files.len()), Vec::new());
    for file in files {
        let path = file.place.and_then(|_| paths.next());
        let padding = path.is_none();
        let Resolved { path, raw, renamed } = path.unwrap_or_else(|| padding_path(file.length));
        if renamed {
            warnings.push(Warning::Renamed { path: path.clone() });
        } else if raw.is_some() {
            sanitised.push(placed.len());
        }
        placed.push(File {
            path,
            raw_path: raw,
            length: file.length,
            offset,
            padding,
            executable: file.executable,
            hidden: file.hidden,
            symlink: file.symlink,
            root: file.root,
            digest: None,
        });
        offset = offset.saturating_add(file.length);
        if aligned {
            offset = offset.next_multiple_of(piece_length.into());
        }
    }
    if let Some(&first) = sanitised.first() {
        warnings.push(Warning::Sanitised {
            count: sanitised.len(),
            first: placed[first].path.clone(),
        });
    }
    Ok(placed)
}

/// Padding is never written, so that its name says only what it is.
fn padding_path(length: u64) -> Resolved {
    Resolved {
        path: format!(".pad/{length}"),
        raw: None,
        renamed: false,
    }
}
