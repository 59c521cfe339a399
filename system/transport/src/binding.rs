//! Which route the sockets of this process may take.
//!
//! Invariant: a binding is applied to a socket before it connects, listens or sends, or the socket is not used.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::Socket;

/// What every socket is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Binding {
    /// Whatever the system's routes say.
    #[default]
    Any,
    /// One source address. Targets of the other family are out of reach.
    Address(IpAddr),
    /// One network device, by name.
    Interface(String),
}

impl Binding {
    /// Whether a socket under this binding can reach the family of `target` at all.
    pub(crate) fn reaches(&self, target: IpAddr) -> bool {
        match self {
            Self::Any | Self::Interface(_) => true,
            Self::Address(source) => source.is_ipv4() == target.is_ipv4(),
        }
    }

    /// What is said while it is not there.
    pub(crate) fn absence(&self) -> String {
        format!("{self} is gone, and nothing goes another way")
    }

    /// Binds a socket that will connect to `target`.
    pub(crate) fn apply_to_client(&self, socket: &Socket, target: SocketAddr) -> io::Result<()> {
        match self {
            Self::Any => Ok(()),
            Self::Address(source) if self.reaches(target.ip()) => {
                socket.bind(&SocketAddr::new(*source, 0).into())
            }
            Self::Address(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
            Self::Interface(name) => bind_device(socket, name),
        }
    }

    /// Ties a socket that is about to listen to the device; its address is the caller's to choose.
    pub(crate) fn apply_to_listener(&self, socket: &Socket) -> io::Result<()> {
        match self {
            Self::Any | Self::Address(_) => Ok(()),
            Self::Interface(name) => bind_device(socket, name),
        }
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any route"),
            Self::Address(address) => write!(f, "the address {address}"),
            Self::Interface(name) => write!(f, "the interface {name}"),
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn bind_device(socket: &Socket, name: &str) -> io::Result<()> {
    // An empty name would lift the binding instead of setting it.
    if name.is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    socket.bind_device(Some(name.as_bytes()))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn bind_device(_socket: &Socket, _name: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
