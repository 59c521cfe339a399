//! How much of a session is read before it is refused.

/// The most torrents of one session. The largest that people report have some tens of thousands.
pub const MAX_TORRENTS: usize = 100_000;

/// The longest file that belongs to one torrent, in bytes: the longest .torrent file that is read.
pub const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// The longest file with the resume data of all torrents, in bytes: 10,000 torrents with Merkle trees of 50 KiB.
pub const MAX_RESUME_BYTES: u64 = 512 * 1024 * 1024;

/// The longest file with the settings of all torrents, in bytes: half a kilobyte for each of [`MAX_TORRENTS`].
pub const MAX_STATE_BYTES: u64 = 64 * 1024 * 1024;

/// The most tags kept of one torrent.
pub const MAX_TAGS: usize = 200;

/// The longest name, category or tag kept, in bytes.
pub const MAX_TEXT_BYTES: usize = 1024;

/// The longest path kept, in bytes: what Windows takes, the most of all systems.
pub const MAX_PATH_BYTES: usize = 32 * 1024;
