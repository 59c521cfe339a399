-- The torrents of a session. What is verified of their content is in completion journals, not here.
CREATE TABLE torrent (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    info_hash_v1 BLOB UNIQUE CHECK (length(info_hash_v1) = 20),
    info_hash_v2 BLOB UNIQUE CHECK (length(info_hash_v2) = 32),
    -- A magnet link, until the metainfo is known.
    magnet TEXT,
    -- As the system writes paths.
    directory BLOB NOT NULL,
    wish TEXT NOT NULL CHECK (wish IN ('queued', 'paused')),
    -- One byte for each file, 0 or 1; NULL is every file.
    selection BLOB,
    sequential INTEGER NOT NULL CHECK (sequential IN (0, 1)),
    -- Unix time in seconds.
    added_at INTEGER NOT NULL,
    completed_at INTEGER,
    -- What was seen last: what is verified is in the journal, and these are shown while nobody has read that.
    wanted_bytes INTEGER NOT NULL DEFAULT 0 CHECK (wanted_bytes >= 0),
    verified_bytes INTEGER NOT NULL DEFAULT 0 CHECK (verified_bytes >= 0),
    -- Payload moved in all runs.
    downloaded_bytes INTEGER NOT NULL DEFAULT 0 CHECK (downloaded_bytes >= 0),
    uploaded_bytes INTEGER NOT NULL DEFAULT 0 CHECK (uploaded_bytes >= 0),
    CHECK (info_hash_v1 IS NOT NULL OR info_hash_v2 IS NOT NULL)
) STRICT;

-- The .torrent files, apart, so that the rows above stay short.
CREATE TABLE metainfo (
    torrent INTEGER PRIMARY KEY REFERENCES torrent (id) ON DELETE CASCADE,
    file BLOB NOT NULL
) STRICT;
