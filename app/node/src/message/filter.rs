//! What is asked and told of address lists.
//!
//! Invariant: a list is named by its path from the root.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What a person asks of the lists of addresses that peers must not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum FilterRequest {
    /// Which there are.
    List {},
    /// One more holds.
    Add {
        /// Its file: P2P, DAT, CIDR, or PeerGuardian's binary form.
        path: String,
    },
    /// Some hold no more.
    Remove {
        /// Their files.
        paths: Vec<String>,
    },
    /// All are read again.
    Reload {},
    /// Whether peers may have an address.
    Test {
        /// Which one.
        address: IpAddr,
    },
}

/// A list of addresses that peers must not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressList {
    /// Its file.
    pub path: String,
    /// Ranges that were read.
    pub ranges: u64,
    /// Ranges that it lets pass: of an access level above 127.
    pub let_pass: u64,
    /// Lines that make no sense.
    pub bad: u64,
    /// The first of these.
    pub first_bad: Vec<BadLine>,
    /// Ranges that do not hold, as there are too many.
    pub left_out: u64,
    /// When it was read, in Unix time in seconds.
    pub read_at: Option<i64>,
    /// Why it could not be read again: what was read before holds.
    pub message: Option<String>,
}

/// A line that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadLine {
    /// Its number, from 1.
    pub line: u32,
    /// What is wrong with it.
    pub why: String,
}

/// Whether peers may have an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestedAddress {
    /// The address.
    pub address: IpAddr,
    /// What forbids it; nothing where it is allowed.
    pub forbidden: Option<Forbidden>,
}

/// What forbids an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forbidden {
    /// The list.
    pub path: String,
    /// Its line, from 1.
    pub line: u32,
    /// The first address that this line forbids and no other did before.
    pub first: IpAddr,
    /// The last of them.
    pub last: IpAddr,
}
