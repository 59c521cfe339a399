//! How the program ends: every exit code, and the one type of error that carries one.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use shoal_engine::EngineError;
use shoal_storage::StorageError;

/// Every way to end. `--help`, the man page and `docs/exit-codes.md` are checked against this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for is done.
    Ok,
    /// Something else went wrong: a file that cannot be read, a network that does not answer.
    Failure,
    /// The command line asks for something impossible.
    Usage,
    /// What was given is no torrent, or one that cannot be used.
    Refused,
    /// The data is not what the torrent promises.
    Wrong,
    /// The place to write to or read from cannot be used.
    Unusable,
    /// Ctrl-C or SIGTERM came before the work was done.
    Interrupted,
    /// Nobody reads the output any more.
    OutputClosed,
}

impl Exit {
    /// In the order of their codes.
    pub(crate) const ALL: [Exit; 8] = [
        Exit::Ok,
        Exit::Failure,
        Exit::Usage,
        Exit::Refused,
        Exit::Wrong,
        Exit::Unusable,
        Exit::Interrupted,
        Exit::OutputClosed,
    ];

    /// What the shell sees. The last two are 128 and the signal that would have ended the program, as shells count.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::Refused => 3,
            Exit::Wrong => 4,
            Exit::Unusable => 5,
            Exit::Interrupted => 130,
            Exit::OutputClosed => 141,
        }
    }

    /// The word for it in JSON.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Exit::Ok => "ok",
            Exit::Failure => "failure",
            Exit::Usage => "usage",
            Exit::Refused => "torrent_refused",
            Exit::Wrong => "data_wrong",
            Exit::Unusable => "target_unusable",
            Exit::Interrupted => "interrupted",
            Exit::OutputClosed => "output_closed",
        }
    }

    /// What it means, for people.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Exit::Ok => "done",
            Exit::Failure => "failed: a file that cannot be read, a network that does not answer",
            Exit::Usage => "the command line asks for something impossible",
            Exit::Refused => "the torrent or magnet link is refused",
            Exit::Wrong => "data is missing or wrong",
            Exit::Unusable => {
                "the target cannot be used: missing, read-only, locked, or there already"
            }
            Exit::Interrupted => "interrupted by Ctrl-C or SIGTERM before the work was done",
            Exit::OutputClosed => "nobody reads the output any more",
        }
    }

    /// The list of codes that ends every help text.
    pub(crate) fn help() -> String {
        let mut text = String::from("Exit codes:");
        for exit in Exit::ALL {
            text.push_str(&format!("\n  {:<4} {}", exit.code(), exit.meaning()));
        }
        text
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Why a command ends early: a sentence that says what happened, where, and what to do, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure {
            exit,
            message: message.into(),
        }
    }

    /// Something about a path: what happened, the path, what to do.
    pub(crate) fn at(exit: Exit, what: &str, path: &Path, then: impl fmt::Display) -> Failure {
        Failure::new(exit, format!("{what}: {}: {then}", path.display()))
    }

    /// The end that a person asked for.
    pub(crate) fn interrupted() -> Failure {
        Failure::new(
            Exit::Interrupted,
            "interrupted: nothing verified is lost; run the command again to go on",
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Failure {
        let exit = match &error {
            StorageError::NoDirectory(_)
            | StorageError::ReadOnly(_)
            | StorageError::Link(_)
            | StorageError::NotAFile(_)
            | StorageError::Path(_)
            | StorageError::VolumeMissing(_)
            | StorageError::FilesMissing { .. }
            | StorageError::Locked(_) => Exit::Unusable,
            StorageError::Cancelled => return Failure::interrupted(),
            _ => Exit::Failure,
        };
        Failure::new(exit, error.to_string())
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        match error {
            EngineError::Storage(error) => error.into(),
            other => Failure::new(Exit::Failure, other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_its_own() {
        let mut codes: Vec<u8> = Exit::ALL.map(Exit::code).to_vec();
        codes.dedup();
        assert_eq!(codes.len(), Exit::ALL.len());
        assert!(codes.is_sorted());
    }

    #[test]
    fn the_page_about_exit_codes_has_every_code_and_word() {
        let page = include_str!("../../../docs/exit-codes.md");
        for exit in Exit::ALL {
            let row = format!("| {} | `{}` |", exit.code(), exit.kind());
            assert!(page.contains(&row), "{row}");
        }
    }
}
