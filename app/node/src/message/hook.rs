//! What is asked and told of hooks.
//!
//! Invariant: a program and its arguments are words of their own, which nothing cuts or joins.

use serde::{Deserialize, Serialize};

/// What a person asks of the programs that run when something happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum HookRequest {
    /// Which there are.
    List {},
    /// This one runs from here on, in place of another one.
    Set {
        /// When.
        on: Occasion,
        /// The program and its arguments, in which `{name}` and its like stand for what a torrent says.
        program: Vec<String>,
    },
    /// Nothing runs any more.
    Remove {
        /// When.
        on: Vec<Occasion>,
    },
}

/// What happens to a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// It became part of the session.
    Added,
    /// Everything wanted of it is there, for the first time.
    Complete,
}

impl Occasion {
    /// All of them.
    pub const ALL: [Occasion; 2] = [Occasion::Added, Occasion::Complete];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Occasion::Added => "added",
            Occasion::Complete => "complete",
        }
    }
}

/// A program that runs when something happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// When.
    pub on: Occasion,
    /// It and its arguments.
    pub program: Vec<String>,
}
