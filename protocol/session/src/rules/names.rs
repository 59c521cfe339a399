//! Names of categories and tags.
//!
//! Invariant: a name can be written where torrents are named: it has no comma, which separates them, no control character, and is not
//! the word for having none.

use core::borrow::Borrow;
use core::fmt;
use core::str::FromStr;

/// The longest name of a category or tag, in bytes: what file systems take for one component, as folders are often called alike.
pub const MAX_NAME_BYTES: usize = 255;
/// The most categories one below another.
pub const MAX_CATEGORY_DEPTH: usize = 8;
/// What puts a torrent into no category.
const NONE: &str = "none";

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has no character.
    #[error("the name is empty")]
    Empty,
    /// It is longer than [`MAX_NAME_BYTES`].
    #[error("the name is longer than {MAX_NAME_BYTES} bytes")]
    TooLong,
    /// It is deeper than [`MAX_CATEGORY_DEPTH`].
    #[error("the category is more than {MAX_CATEGORY_DEPTH} levels deep")]
    TooDeep,
    /// A category has an empty part.
    #[error("a part of the category is empty; write it as in films/short")]
    EmptyPart,
    /// It has a space where nobody sees it.
    #[error("the name, or a part of it, begins or ends with a space")]
    Space,
    /// It has a character that means something else.
    #[error("the name has the character {0:?}, which is not allowed in names")]
    Character(char),
    /// It is a word of the commands.
    #[error("the name {NONE:?} stands for having none; choose another")]
    Reserved,
}

/// The name of a category. `films/short` is below `films`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CategoryName(String);

/// The name of a tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagName(String);

impl CategoryName {
    /// The name as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, and then those of the categories that it is below, nearest first.
    pub fn lineage(&self) -> impl Iterator<Item = &str> {
        core::iter::successors(Some(self.as_str()), |name| {
            name.rsplit_once('/').map(|(parent, _)| parent)
        })
    }
}

impl TagName {
    /// The name as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CategoryName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        check(name)?;
        if name.split('/').any(str::is_empty) {
            return Err(NameError::EmptyPart);
        }
        if name.split('/').count() > MAX_CATEGORY_DEPTH {
            return Err(NameError::TooDeep);
        }
        name.split('/').try_for_each(check_ends)?;
        Ok(CategoryName(name.to_owned()))
    }
}

impl FromStr for TagName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        check(name)?;
        check_ends(name)?;
        Ok(TagName(name.to_owned()))
    }
}

fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong);
    }
    if name == NONE {
        return Err(NameError::Reserved);
    }
    let refused = name.chars().find(|&c| c == ',' || c.is_control());
    refused.map_or(Ok(()), |c| Err(NameError::Character(c)))
}

fn check_ends(part: &str) -> Result<(), NameError> {
    if part.trim() == part {
        Ok(())
    } else {
        Err(NameError::Space)
    }
}

// So that maps by name are asked with text.
impl Borrow<str> for CategoryName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for TagName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CategoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn category(name: &str) -> Result<CategoryName, NameError> {
        name.parse()
    }

    #[test]
    fn a_category_is_below_all_that_its_name_begins_with() {
        let name = category("films/short/silent ones").unwrap();
        let lineage: Vec<&str> = name.lineage().collect();
        assert_eq!(lineage, ["films/short/silent ones", "films/short", "films"]);
    }

    #[test]
    fn names_that_could_not_be_written_in_a_command_are_refused() {
        let long = "a".repeat(MAX_NAME_BYTES);
        assert!(category(&long).is_ok());
        assert_eq!(category(&format!("{long}a")), Err(NameError::TooLong));
        assert!(category("a/b/c/d/e/f/g/h").is_ok());
        assert_eq!(category("a/b/c/d/e/f/g/h/i"), Err(NameError::TooDeep));
        let refused = [
            ("", NameError::Empty),
            ("/a", NameError::EmptyPart),
            ("a/", NameError::EmptyPart),
            ("a//b", NameError::EmptyPart),
            ("a/ b", NameError::Space),
            ("a /b", NameError::Space),
            ("none", NameError::Reserved),
            ("a,b", NameError::Character(',')),
            ("a\u{7f}b", NameError::Character('\u{7f}')),
        ];
        for (name, why) in refused {
            assert_eq!(category(name), Err(why), "{name:?}");
        }
        for name in ["", " a", "a,b", "none", "a\nb"] {
            assert!(name.parse::<TagName>().is_err(), "{name:?}");
        }
        assert_eq!("a/b".parse::<TagName>().unwrap().as_str(), "a/b");
    }
}
