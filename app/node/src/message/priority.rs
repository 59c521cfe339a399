//! How much files are wanted, and in which order their pieces are fetched.

use serde::{Deserialize, Serialize};

/// What is told of the files of torrents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prioritize {
    /// Which torrents.
    pub torrents: Vec<String>,
    /// How much some of their files are wanted; of a file that is named twice, the last counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FilesPriority>,
    /// Whether pieces are fetched in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequential: Option<bool>,
    /// Whether the first and last pieces of each wanted file come first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_last: Option<bool>,
}

/// How much files of a range are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesPriority {
    /// The number of the first, from 1; padding has none.
    pub first: usize,
    /// The number of the last.
    pub last: usize,
    /// How much.
    pub priority: Priority,
}

/// How much a file is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Not at all.
    Skip,
    /// As usual.
    Normal,
    /// Before what is wanted as usual.
    High,
    /// Before everything else.
    Highest,
}

impl Priority {
    /// All of them.
    pub const ALL: [Priority; 4] = [
        Priority::Skip,
        Priority::Normal,
        Priority::High,
        Priority::Highest,
    ];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Priority::Skip => "skip",
            Priority::Normal => "normal",
            Priority::High => "high",
            Priority::Highest => "highest",
        }
    }
}

impl std::str::FromStr for Priority {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let mut all = Priority::ALL.into_iter();
        all.find(|priority| priority.name() == word)
            .ok_or_else(|| "write skip, normal, high or highest".to_owned())
    }
}
