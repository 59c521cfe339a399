//! What a process has used so far, as the system counts it.

use anyhow::{Context, Result};
use std::fs;
use std::time::Duration;

/// The unit of times in `/proc/PID/stat`: what `sysconf(_SC_CLK_TCK)` gives on every architecture of Linux that we run on.
const TICKS_PER_S: f64 = 100.0;

/// CPU seconds of a process, user and system, of all threads that it has and had. Of one that has ended, as long as nobody
/// waited for it.
///
/// # Errors
///
/// There is no such process.
pub(crate) fn cpu_s(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse_cpu_s(&stat).with_context(|| format!("{path} is unreadable"))
}

/// Fields 14 and 15 of `stat`, proc(5). The second is the program's name in brackets, which may have blanks and brackets.
fn parse_cpu_s(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_S)
}

/// CPU seconds of this thread so far.
///
/// # Errors
///
/// The system does not count.
pub(crate) fn thread_cpu_s() -> Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let ns: u64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(Duration::from_nanos(ns).as_secs_f64())
}

/// CPU seconds of all threads that a process has, to the nanosecond. Those of threads that ended are not among them.
///
/// # Errors
///
/// There is no such process.
pub(crate) fn running_s(pid: u32) -> Result<f64> {
    let folder = format!("/proc/{pid}/task");
    let threads = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    let mut ns = 0;
    for thread in threads {
        // It may end meanwhile.
        let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        ns += text
            .split(' ')
            .next()
            .map_or(0, |ns| ns.parse().unwrap_or(0));
    }
    Ok(Duration::from_nanos(ns).as_secs_f64())
}

/// What a process has of what the system counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Held {
    pub(crate) descriptors: f64,
    pub(crate) threads: f64,
}

impl Held {
    /// # Errors
    ///
    /// There is no such process.
    pub(crate) fn by(pid: u32) -> Result<Held> {
        let count = |what: &str| -> Result<f64> {
            let folder = format!("/proc/{pid}/{what}");
            let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
            Ok(entries.count() as f64)
        };
        Ok(Held {
            descriptors: count("fd")?,
            threads: count("task")?,
        })
    }
}

/// The most resident memory of a process so far, in bytes; `None` once it has ended.
pub(crate) fn peak_rss_bytes(pid: u32) -> Option<u64> {
    status(pid, "VmHWM:")
}

/// The resident memory of a process, in bytes; `None` once it has ended.
pub(crate) fn rss_bytes(pid: u32) -> Option<u64> {
    status(pid, "VmRSS:")
}

fn status(pid: u32, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Bytes that went over the loopback interface of this namespace.
///
/// # Errors
///
/// The system does not count.
pub(crate) fn loopback_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/net/dev")?;
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("lo:"))
        .context("there is no loopback interface")?;
    let received = line.split_whitespace().next().unwrap_or_default();
    Ok(received.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(parse_cpu_s(stat), Some(3.0));
        assert_eq!(parse_cpu_s("7 (a"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let pid = std::process::id();
        assert!(cpu_s(pid).unwrap() >= 0.0);
        assert!(rss_bytes(pid).unwrap() > 100_000);
        assert!(peak_rss_bytes(pid).unwrap() >= rss_bytes(pid).unwrap() / 2);
        assert!(thread_cpu_s().unwrap() >= 0.0);
        assert!(running_s(pid).unwrap() > 0.0);
        let held = Held::by(pid).unwrap();
        assert!(held.descriptors >= 3.0 && held.threads >= 1.0);
        loopback_bytes().unwrap();
    }
}
