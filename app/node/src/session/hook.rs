//! Programs that run when something happens to a torrent.
//!
//! A program gets its arguments as they are, whatever a torrent says: no shell reads them, and what stands for `{name}` stays within the
//! argument that has it.
//!
//! Invariant: what has happened is told once. That a program is to run is in the database until just before it begins, so that one that waits
//! outlives the node, and none begins twice.

mod program;
mod words;

use super::{Answer, NodeError, Session};
use crate::message::{Hook, HookRequest, Occasion, Reply};
use program::Runner;
use shoal_store::{Database, StoreError};
use std::collections::BTreeMap;
use std::path::Path;

/// What they are called in the database.
const KIND: &str = "hook";

/// More arguments than a person writes.
const MAX_ARGUMENTS: usize = 64;

/// The most bytes of all of them.
const MAX_PROGRAM_BYTES: usize = 16 * 1024;

/// Which programs there are, and who runs them.
pub(super) struct Hooks {
    programs: BTreeMap<Occasion, Vec<String>>,
    runner: Runner,
}

impl Hooks {
    /// What was told before, and what has waited since. What cannot be read (a newer program wrote it) runs never, and is told of.
    pub(super) async fn read(database: &Database) -> Result<Self, StoreError> {
        let mut programs = BTreeMap::new();
        let entries = database.entries(KIND).await?;
        for on in Occasion::ALL {
            match entries
                .get(on.name())
                .map(|text| serde_json::from_str(text))
            {
                Some(Ok(program)) => drop(programs.insert(on, program)),
                Some(Err(error)) => tracing::warn!(on = on.name(), %error, "a hook cannot be read"),
                None => {}
            }
        }
        Ok(Hooks {
            programs,
            runner: Runner::start(database.clone()).await?,
        })
    }

    /// Nothing begins any more, and what runs ends.
    pub(super) fn stop(&self) {
        self.runner.stop();
    }
}

impl Session {
    pub(super) async fn hook(&mut self, request: HookRequest) -> Answer {
        match request {
            HookRequest::List {} => {}
            HookRequest::Set { on, program } => {
                check(&program).map_err(NodeError::Usage)?;
                let text = serde_json::to_string(&program);
                let text = text.map_err(|error| StoreError::Damaged(error.to_string()))?;
                self.database
                    .set_entry(KIND, on.name(), Some(&text))
                    .await?;
                self.hooks.programs.insert(on, program);
            }
            HookRequest::Remove { on } => {
                for on in on {
                    self.database.set_entry(KIND, on.name(), None).await?;
                    self.hooks.programs.remove(&on);
                }
            }
        }
        let hooks = self.hooks.programs.iter().map(|(&on, program)| Hook {
            on,
            program: program.clone(),
        });
        let hooks = hooks.collect();
        Ok(Reply::Hooks { hooks })
    }

    /// Something has happened to a torrent.
    pub(super) async fn happened(&self, id: i64, on: Occasion) {
        let (Some(program), Some(entry)) = (self.hooks.programs.get(&on), self.entries.get(&id))
        else {
            return;
        };
        let words = words::of(entry);
        let arguments: Vec<String> = program
            .iter()
            .map(|argument| words::fill(argument, &words))
            .collect();
        let name = format!("{id:020} {}", on.name());
        if let Err(error) = self.hooks.runner.order(&name, &arguments).await {
            tracing::warn!(torrent = id, on = on.name(), %error, "a hook does not run");
        }
    }
}

/// Whether this can be run.
fn check(program: &[String]) -> Result<(), String> {
    let Some(first) = program.first().filter(|first| !first.is_empty()) else {
        return Err("a hook is a program and its arguments; name the program".to_owned());
    };
    if program.len() > MAX_ARGUMENTS {
        return Err(format!("{MAX_ARGUMENTS} arguments are the most of a hook"));
    }
    let bytes: usize = program.iter().map(String::len).sum();
    if bytes > MAX_PROGRAM_BYTES {
        return Err(format!("{MAX_PROGRAM_BYTES} bytes are the most of a hook"));
    }
    if program.iter().any(|argument| argument.contains('\0')) {
        return Err("no argument of a program has a zero byte".to_owned());
    }
    let path = Path::new(first);
    if first.contains('/') && !path.is_absolute() {
        return Err(format!(
            "write {first:?} from the root, as the node has a current folder of its own"
        ));
    }
    if first.contains('{') {
        return Err("which program runs is not for a torrent to say".to_owned());
    }
    if path.is_absolute() && !path.is_file() {
        return Err(format!("there is no program {first}"));
    }
    program
        .iter()
        .try_for_each(|argument| words::check(argument))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_run_is_refused_with_what_to_write() {
        let read = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            check(&words)
        };
        assert!(read(&["true", "--name={name}", "{}", "{ }", "a{b"]).is_ok());
        for (words, about) in [
            (&[][..], "name the program"),
            (&[""][..], "name the program"),
            (&["./hook.sh"][..], "from the root"),
            (&["/no/such/program"][..], "no program"),
            (&["{name}"][..], "not for a torrent"),
            (&["true", "{nmae}"][..], "{name}"),
            (&["true", "a\0b"][..], "zero byte"),
        ] {
            let refused = read(words).unwrap_err();
            assert!(refused.contains(about), "{refused}");
        }
        assert!(read(&["x"; MAX_ARGUMENTS + 1]).is_err());
    }
}
