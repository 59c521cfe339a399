//! The files of an info dictionary, as its v1 part (BEP 3, 47) and its v2 part (BEP 52) list them.

use super::error::Error;
use crate::bencode::Value;
use crate::names::{DirectoryId, Names, Place};

/// A file as it is listed, before its path is made safe.
#[derive(Clone, Debug)]
pub(super) struct Listed<'a> {
    /// Where it is; `None` for padding, which is nowhere.
    pub(super) place: Option<Place<'a>>,
    pub(super) length: u64,
    pub(super) executable: bool,
    pub(super) hidden: bool,
    pub(super) symlink: Option<String>,
    pub(super) root: Option<[u8; 32]>,
}

/// The string of `key`, or of `key.utf-8`, which old programs write beside a `key` in another encoding.
pub(super) fn text<'a>(dict: Value<'a>, key: &'static str) -> Option<Value<'a>> {
    dict.get(format!("{key}.utf-8")).or_else(|| dict.get(key))
}

/// The files of the v1 part: one named `name`, or those of `files`.
pub(super) fn v1<'a>(info: Value<'a>, names: &mut Names<'a>) -> Result<Vec<Listed<'a>>, Error> {
    let Some(files) = info.get("files") else {
        let name = name(info)?;
        let place = Place {
            directory: Names::ROOT,
            name,
        };
        return Ok(vec![v1_file(info, Some(place), names)?]);
    };
    let files = files.as_list().ok_or(Error::Malformed {
        field: "files",
        expected: "a list",
    })?;
    let mut listed = Vec::new();
    for file in files {
        let place = match attributes(file).contains(&b'p') {
            true => None,
            false => v1_place(file, names)?
                .ok_or_else(|| Error::FilePath(u32::try_from(listed.len()).unwrap_or(u32::MAX)))
                .map(Some)?,
        };
        listed.push(v1_file(file, place, names)?);
    }
    Ok(listed)
}

/// The name of the torrent, as it is written.
pub(super) fn name(info: Value<'_>) -> Result<&[u8], Error> {
    let name = text(info, "name").ok_or(Error::Missing("name"))?;
    name.as_bytes().ok_or(Error::Malformed {
        field: "name",
        expected: "a string",
    })
}

fn v1_place<'a>(file: Value<'a>, names: &mut Names<'a>) -> Result<Option<Place<'a>>, Error> {
    let Some(path) = text(file, "path").and_then(|path| path.as_list()) else {
        return Ok(None);
    };
    let mut directory = Names::ROOT;
    let mut last = None;
    for component in path {
        let Some(name) = component.as_bytes() else {
            return Ok(None);
        };
        if let Some(parent) = last.replace(name) {
            directory = names.directory(directory, parent)?;
        }
    }
    Ok(last.map(|name| Place { directory, name }))
}

fn v1_file<'a>(
    file: Value<'a>,
    place: Option<Place<'a>>,
    names: &Names<'a>,
) -> Result<Listed<'a>, Error> {
    // BitComet marks the files that it pads with by their names alone.
    let padding = |place: &Place<'_>| place.name.starts_with(b"_____padding_file_");
    let shown = || place.map_or_else(|| "padding".to_owned(), |place| names.display(place));
    let symlink = symlink(file);
    let length = match symlink {
        Some(_) => 0,
        None => length(file).ok_or_else(|| Error::FileLength(shown()))?,
    };
    let attributes = attributes(file);
    Ok(Listed {
        place: place.filter(|place| !padding(place)),
        length,
        executable: attributes.contains(&b'x'),
        hidden: attributes.contains(&b'h'),
        symlink,
        root: None,
    })
}

/// The files of the v2 part, in the order of its tree. Walks with a stack of its own, as the tree may be deep.
pub(super) fn v2<'a>(tree: Value<'a>, names: &mut Names<'a>) -> Result<Vec<Listed<'a>>, Error> {
    let entries = |value: Value<'a>, reason| {
        let offset = value.offset();
        value.as_dict().ok_or(Error::FileTree { offset, reason })
    };
    let mut listed = Vec::new();
    let mut stack = vec![(Names::ROOT, entries(tree, "it must be a dictionary")?)];
    while let Some((directory, open)) = stack.last_mut() {
        let directory = *directory;
        let Some((name, value)) = open.next() else {
            stack.pop();
            continue;
        };
        let offset = value.offset();
        if name.is_empty() {
            let reason = "a file is a dictionary with an empty key and no other";
            return Err(Error::FileTree { offset, reason });
        }
        match leaf(entries(value, "an entry must be a dictionary")?) {
            Some(file) => {
                let file =
                    entries(file, "the properties of a file must be a dictionary").map(|_| file)?;
                listed.push(v2_file(file, directory, name, names)?);
            }
            None => {
                let below = names.directory(directory, name)?;
                stack.push((below, entries(value, "an entry must be a dictionary")?));
            }
        }
    }
    Ok(listed)
}

/// The properties of a file, if `entries` are one: a single one with an empty key.
fn leaf<'a>(mut entries: impl Iterator<Item = (&'a [u8], Value<'a>)>) -> Option<Value<'a>> {
    let (key, value) = entries.next()?;
    (key.is_empty() && entries.next().is_none()).then_some(value)
}

fn v2_file<'a>(
    file: Value<'a>,
    directory: DirectoryId,
    name: &'a [u8],
    names: &Names<'a>,
) -> Result<Listed<'a>, Error> {
    let place = Place { directory, name };
    let attributes = attributes(file);
    if attributes.contains(&b'p') {
        let (offset, reason) = (file.offset(), "padding has no place in it");
        return Err(Error::FileTree { offset, reason });
    }
    let symlink = symlink(file);
    let length = match symlink {
        Some(_) => 0,
        None => length(file).ok_or_else(|| Error::FileLength(names.display(place)))?,
    };
    let root = file.get("pieces root").and_then(|root| root.as_bytes());
    let root = match length {
        0 => None,
        _ => Some(
            // No content has a root of zeros: that is what trees are filled up with.
            root.and_then(|root| root.try_into().ok())
                .filter(|root| *root != [0; 32])
                .ok_or_else(|| Error::MissingRoot(names.display(place)))?,
        ),
    };
    Ok(Listed {
        place: Some(place),
        length,
        executable: attributes.contains(&b'x'),
        hidden: attributes.contains(&b'h'),
        symlink,
        root,
    })
}

fn length(file: Value<'_>) -> Option<u64> {
    u64::try_from(file.get("length")?.as_int()?).ok()
}

fn attributes<'a>(file: Value<'a>) -> &'a [u8] {
    file.get("attr")
        .and_then(|attributes| attributes.as_bytes())
        .unwrap_or_default()
}

/// Where a symlink points, if the file is one (BEP 47). It has no content, whatever its length says.
fn symlink(file: Value<'_>) -> Option<String> {
    if !attributes(file).contains(&b'l') {
        return None;
    }
    let target = file.get("symlink path")?.as_list()?;
    let components = target.filter_map(|component| component.as_bytes());
    let components: Vec<_> = components.map(String::from_utf8_lossy).collect();
    Some(components.join("/"))
}
