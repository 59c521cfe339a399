//! The process as the system sees it: its descriptors, the engines' ends of connections among them, and its memory.

use rustix::process::{
    PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, getpid, getrlimit, pidfd_getfd, pidfd_open,
    setrlimit,
};
use socket2::{SockAddr, SockRef};
use std::fs;
use std::os::fd::{OwnedFd, RawFd};
use tokio::net::TcpStream;

/// Leaves the engine at the other end of `stream` the least room that the system allows for what it sends, so that what it
/// writes is taken in parts. The engine is in this process. Where the system does not let a process get at its own
/// descriptors by number (a strict container), the usual room stays, and parts are larger.
pub(crate) fn narrow_the_other_end(stream: &TcpStream) {
    let (here, there) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    let (here, there) = (SockAddr::from(here), SockAddr::from(there));
    for descriptor in descriptors() {
        let Some(copy) = copy_of(descriptor) else {
            return;
        };
        let socket = SockRef::from(&copy);
        let ends = (socket.local_addr().ok(), socket.peer_addr().ok());
        if ends == (Some(there.clone()), Some(here.clone())) {
            socket.set_send_buffer_size(1).unwrap();
            return;
        }
    }
    panic!("no engine of this process is at the other end");
}

/// `None` also where the descriptor was closed meanwhile.
fn copy_of(descriptor: RawFd) -> Option<OwnedFd> {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).ok()?;
    pidfd_getfd(this, descriptor, PidfdGetfdFlags::empty()).ok()
}

/// What is open.
pub(crate) fn descriptors() -> Vec<RawFd> {
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Lets the process have so many descriptors; says whether the system allows it.
pub(crate) fn may_open(count: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= count);
    if enough(limit.current) {
        return true;
    }
    let raised = Rlimit {
        current: Some(count),
        maximum: limit.maximum,
    };
    enough(limit.maximum) && setrlimit(Resource::Nofile, raised).is_ok()
}

/// Bytes of memory that the process occupies.
pub(crate) fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}
