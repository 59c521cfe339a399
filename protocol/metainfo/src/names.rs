//! Names of files as strangers wrote them, made safe and distinct for a disk.
//!
//! Invariant: a name that leaves here is one path component: not empty, not `.` or `..`, at most [`MAX_NAME_BYTES`] long,
//! without separators, control characters or invisible formatting, and no device of Windows. Within a torrent no two
//! files have the same path and no file has the path of a directory, on disks that ignore case too. The same input gives
//! the same names, on every machine of a kind.

use std::collections::BTreeMap;

#[cfg(test)]
mod tests;

/// The longest name in bytes. File systems take 255; the rest is for suffixes of unfinished files.
pub const MAX_NAME_BYTES: usize = 240;

/// The most components of a path below the torrent's folder. Beyond a hundred, paths exceed what systems take.
pub const MAX_PATH_DEPTH: usize = 100;

/// The most names that are tried to tell files apart whose paths are the same, in one torrent.
pub const MAX_RENAMES: u32 = 500;

/// The most memory for the paths of one torrent, in bytes: three million paths of 90. Directories nested in a v2 file
/// tree are written once in it but stand in the path of every file, so that a small torrent could claim a lot.
pub const MAX_PATH_BYTES: usize = 256 * 1024 * 1024;

/// The most directories of one torrent, each of which takes some 250 bytes while names are made. A metainfo of a few
/// megabytes could list millions.
pub const MAX_DIRECTORIES: u32 = 500_000;

/// The longest extension, dot included, that survives when a long name is cut.
const MAX_EXTENSION_BYTES: usize = 16;

/// What a path component costs beside its bytes where it is kept as it was written.
const COMPONENT_OVERHEAD_BYTES: usize = 16;

/// Why the names of a torrent cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A component that leads out of the torrent's folder. It has no innocent reading.
    #[error("the path component {0:?} leads out of the torrent's folder")]
    Climbs(String),
    /// A path of more than [`MAX_PATH_DEPTH`] components.
    #[error("a path has more than {MAX_PATH_DEPTH} components")]
    TooDeep,
    /// More directories than [`MAX_DIRECTORIES`].
    #[error("the torrent has more than {MAX_DIRECTORIES} directories")]
    TooManyDirectories,
    /// Too many files have the path of another file or of a directory.
    #[error("more than {MAX_RENAMES} file names are taken by other files or directories")]
    TooManyRenames,
    /// Paths that take more than [`MAX_PATH_BYTES`].
    #[error("the paths of all files together take more than {MAX_PATH_BYTES} bytes")]
    TooLong,
}

/// Makes `raw` a safe name. Doing it twice changes nothing.
///
/// Separators and invisible formatting characters are left out, control characters and invalid UTF-8 become `_`, dots
/// and spaces at the end go, names of devices get a `_` in front, and long names are cut before their extension.
#[must_use]
pub fn sanitise(raw: &[u8]) -> String {
    let mut name = String::new();
    for chunk in raw.utf8_chunks() {
        name.extend(chunk.valid().chars().filter_map(sanitise_char));
        if !chunk.invalid().is_empty() {
            name.push('_');
        }
    }
    name.truncate(trimmed(&name).len());
    if name.is_empty() || is_device(&name) {
        name.insert(0, '_');
    }
    cut(&name, "")
}

/// Whether `raw` leads to a parent directory, as a component or, for a reader that knows separators, within one.
#[must_use]
pub fn climbs(raw: &[u8]) -> bool {
    raw.split(|byte| matches!(byte, b'/' | b'\\'))
        .any(|part| part == b"..")
}

fn sanitise_char(c: char) -> Option<char> {
    match c {
        '/' | '\\' => None,
        // Bidirectional marks, embeddings and isolates (UAX #9): they make `exe.txt` of `txt.exe` on the screen.
        '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            None
        }
        // Zero-width and other invisible characters, with which two names can look the same.
        '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' => None,
        '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' => None,
        '\u{e0000}'..='\u{e007f}' => None,
        '\u{2028}' | '\u{2029}' => Some('_'),
        // Windows takes these for wildcards, streams and redirections; elsewhere they are common in titles.
        '<' | '>' | ':' | '"' | '|' | '?' | '*' if cfg!(windows) => Some('_'),
        c if c.is_control() => Some('_'),
        c => Some(c),
    }
}

/// Windows drops dots and spaces at the end of a name, so that `a.` would be `a`.
fn trimmed(name: &str) -> &str {
    name.trim_end_matches(['.', ' '])
}

/// Whether Windows takes `name` for a device, as it does whatever extension follows.
fn is_device(name: &str) -> bool {
    const DEVICES: [&str; 7] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"];
    let stem = name.split('.').next().unwrap_or(name).trim_end();
    let stem = stem.to_ascii_uppercase();
    let port = stem
        .strip_prefix("COM")
        .or_else(|| stem.strip_prefix("LPT"));
    let digit = port.map(str::chars).and_then(|mut rest| match rest.next() {
        Some(digit) if rest.next().is_none() => Some(digit),
        _ => None,
    });
    DEVICES.contains(&stem.as_str())
        || digit.is_some_and(|c| c.is_ascii_digit() || matches!(c, '¹' | '²' | '³'))
}

/// `name` with `suffix` before its extension, the part before that cut so that the whole fits.
fn cut(name: &str, suffix: &str) -> String {
    let (stem, extension) = match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= MAX_EXTENSION_BYTES => name.split_at(dot),
        _ => (name, ""),
    };
    let room = MAX_NAME_BYTES - suffix.len() - extension.len();
    let mut end = stem.len().min(room);
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    let mut stem = &stem[..end];
    if extension.is_empty() && suffix.is_empty() {
        stem = trimmed(stem);
    }
    format!("{stem}{suffix}{extension}")
}

/// How names are compared: as disks do that ignore case.
fn fold(name: &str) -> String {
    name.to_lowercase()
}

/// A directory of a [`Names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirectoryId(u32);

/// Where a file is, as the torrent has it. Two places of one [`Names`] are equal if their paths are, byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The directory.
    pub directory: DirectoryId,
    /// The name within it.
    pub name: &'a [u8],
}

/// What became of the path of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The path, its components joined by `/`.
    pub path: String,
    /// The components as the torrent has them, where they differ from those of `path`.
    pub raw: Option<Box<[Box<[u8]>]>>,
    /// Whether the name was taken and the file has another.
    pub renamed: bool,
}

#[derive(Debug)]
struct Directory<'a> {
    parent: DirectoryId,
    raw: &'a [u8],
    name: String,
    /// Stands for all directories whose paths are the same but for case.
    folded: u32,
    depth: usize,
    path_bytes: usize,
    raw_bytes: usize,
    clean: bool,
}

/// The directory tree of one torrent, from which the paths of its files are made.
#[derive(Debug)]
pub struct Names<'a> {
    directories: Vec<Directory<'a>>,
    by_raw_name: BTreeMap<(DirectoryId, &'a [u8]), DirectoryId>,
    /// Names in use, by folded directory and folded name, with the folded directory that has it, if one does.
    taken: BTreeMap<(u32, String), Taken>,
}

#[derive(Debug)]
struct Taken {
    directory: Option<u32>,
    /// The number that the next file of this name is tried with.
    next_number: u32,
}

impl Default for Names<'_> {
    fn default() -> Self {
        Names::new()
    }
}

impl<'a> Names<'a> {
    /// The torrent's own folder, or, for a torrent of a single file, what contains it.
    pub const ROOT: DirectoryId = DirectoryId(0);

    /// No directory but the root.
    #[must_use]
    pub fn new() -> Self {
        let root = Directory {
            parent: Names::ROOT,
            raw: b"",
            name: String::new(),
            folded: 0,
            depth: 0,
            path_bytes: 0,
            raw_bytes: 0,
            clean: true,
        };
        Names {
            directories: vec![root],
            by_raw_name: BTreeMap::new(),
            taken: BTreeMap::new(),
        }
    }

    /// The directory `raw` in `parent`. Directories are never renamed: those with the same name are one.
    ///
    /// # Errors
    /// Where the name leads out of the folder, or there is no room below for a file.
    pub fn directory(
        &mut self,
        parent: DirectoryId,
        raw: &'a [u8],
    ) -> Result<DirectoryId, NameError> {
        if let Some(&known) = self.by_raw_name.get(&(parent, raw)) {
            return Ok(known);
        }
        refuse_climbing(raw)?;
        let above = self.get(parent);
        if above.depth + 1 >= MAX_PATH_DEPTH {
            return Err(NameError::TooDeep);
        }
        let name = sanitise(raw);
        let (depth, folded_parent) = (above.depth + 1, above.folded);
        let path_bytes = above.path_bytes + name.len() + 1;
        let raw_bytes = above.raw_bytes + raw.len() + COMPONENT_OVERHEAD_BYTES;
        let clean = above.clean && name.as_bytes() == raw;

        // Every folded directory is counted by the directory that was the first of its path.
        let id = u32::try_from(self.directories.len()).unwrap_or(u32::MAX);
        if id > MAX_DIRECTORIES {
            return Err(NameError::TooManyDirectories);
        }
        let taken = self.taken.entry((folded_parent, fold(&name)));
        let folded = taken.or_insert_with(|| Taken::by(Some(id))).directory;
        self.directories.push(Directory {
            parent,
            raw,
            name,
            folded: folded.unwrap_or(id),
            depth,
            path_bytes,
            raw_bytes,
            clean,
        });
        self.by_raw_name.insert((parent, raw), DirectoryId(id));
        Ok(DirectoryId(id))
    }

    /// The paths of files, in their order, once every directory is known. A file whose path is taken, by an earlier file
    /// or by a directory, gets a number: `name (1).txt`.
    ///
    /// # Errors
    /// Where a name leads out of the folder, or a limit is exceeded.
    pub fn resolve(mut self, files: &[Place<'a>]) -> Result<Vec<Resolved>, NameError> {
        let (mut memory, mut tries) = (0usize, 0u32);
        let mut paths = Vec::new();
        for &file in files {
            refuse_climbing(file.name)?;
            let wanted = sanitise(file.name);
            let name = self.claim(self.get(file.directory).folded, &wanted, &mut tries)?;
            let directory = self.get(file.directory);
            let clean = directory.clean && name.as_bytes() == file.name;
            memory += directory.path_bytes + name.len();
            if !clean {
                memory += directory.raw_bytes + file.name.len() + COMPONENT_OVERHEAD_BYTES;
            }
            if memory > MAX_PATH_BYTES {
                return Err(NameError::TooLong);
            }
            paths.push(Resolved {
                renamed: name != wanted,
                path: self.join(file.directory, &name),
                raw: (!clean).then(|| self.raw_path(file).map(Box::from).collect()),
            });
        }
        Ok(paths)
    }

    /// The path of `file` for messages: sanitised, and not told apart from others.
    #[must_use]
    pub fn display(&self, file: Place<'_>) -> String {
        self.join(file.directory, &sanitise(file.name))
    }

    /// Takes `name`, or the first numbered form of it that is free.
    fn claim(&mut self, directory: u32, name: &str, tries: &mut u32) -> Result<String, NameError> {
        let wanted = (directory, fold(name));
        let mut candidate = name.to_owned();
        while self.taken.contains_key(&(directory, fold(&candidate))) {
            *tries += 1;
            if *tries > MAX_RENAMES {
                return Err(NameError::TooManyRenames);
            }
            let number = self.taken.get_mut(&wanted).map_or(1, |taken| {
                taken.next_number += 1;
                taken.next_number - 1
            });
            candidate = cut(name, &format!(" ({number})"));
        }
        self.taken
            .insert((directory, fold(&candidate)), Taken::by(None));
        Ok(candidate)
    }

    fn join(&self, directory: DirectoryId, name: &str) -> String {
        let mut components: Vec<&str> = self
            .upwards(directory)
            .map(|directory| directory.name.as_str())
            .collect();
        components.reverse();
        components.push(name);
        components.join("/")
    }

    fn raw_path(&self, file: Place<'a>) -> impl Iterator<Item = &'a [u8]> {
        let mut components: Vec<&[u8]> = self
            .upwards(file.directory)
            .map(|directory| directory.raw)
            .collect();
        components.reverse();
        components.push(file.name);
        components.into_iter()
    }

    fn upwards(&self, mut at: DirectoryId) -> impl Iterator<Item = &Directory<'a>> {
        core::iter::from_fn(move || {
            let directory = self.get(at);
            at = directory.parent;
            (directory.depth > 0).then_some(directory)
        })
    }

    fn get(&self, id: DirectoryId) -> &Directory<'a> {
        &self.directories[id.0 as usize]
    }
}

impl Taken {
    const fn by(directory: Option<u32>) -> Self {
        Taken {
            directory,
            next_number: 1,
        }
    }
}

/// Refuses names that lead out of the folder they are meant for.
pub(crate) fn refuse_climbing(raw: &[u8]) -> Result<(), NameError> {
    if climbs(raw) {
        let shown = String::from_utf8_lossy(&raw[..raw.len().min(MAX_NAME_BYTES)]);
        return Err(NameError::Climbs(shown.into_owned()));
    }
    Ok(())
}
