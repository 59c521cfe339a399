//! Moving the data of torrents, and giving its files other names.

use std::path::Path;

use shoal_node::message::{FolderRequest, Request};

use super::{ask, changed, folder};
use crate::args::{MoveArgs, RenameArgs};
use crate::commands::Done;
use crate::exit::Failure;
use crate::output::Output;

/// Moves data.
pub(crate) fn relocate(args: MoveArgs, output: &mut Output) -> Done {
    let torrents = vec![args.torrents];
    let request = match (args.directory, args.incomplete) {
        (Some(directory), _) => FolderRequest::Move {
            torrents,
            directory: folder(&directory)?,
        },
        (None, Some(directory)) => FolderRequest::Incomplete {
            torrents,
            directory: until_complete(&directory)?,
        },
        (None, None) if args.inherit => FolderRequest::Inherit { torrents },
        (None, None) => FolderRequest::Stay { torrents },
    };
    ask(&args.state, &Request::Folder(request), &[], output)
}

/// A folder for what is not complete, or a word in its place.
pub(crate) fn until_complete(path: &Path) -> Result<String, Failure> {
    match path.to_str() {
        Some(word @ ("none" | "inherit")) => Ok(word.to_owned()),
        _ => folder(path),
    }
}

/// Gives torrents other names and remarks, or their files other paths.
pub(crate) fn rename(args: RenameArgs, output: &mut Output) -> Done {
    let torrents = vec![args.torrents.clone()];
    let request = match (args.file.as_deref(), args.folder.as_deref()) {
        (Some([old, new]), _) => Request::Folder(FolderRequest::RenameFile {
            torrents,
            old: old.clone(),
            new: new.clone(),
        }),
        (_, Some([old, new])) => Request::Folder(FolderRequest::RenameFolder {
            torrents,
            old: old.clone(),
            new: new.clone(),
        }),
        _ => changed(args.torrents, |change| {
            change.name = args.name;
            change.comment = args.comment;
        }),
    };
    ask(&args.state, &request, &[], output)
}
