//! The stages of a search, its connections, and what it can do without.

use super::*;
