-- What a person has told of torrents and of the session. Values that nothing is looked up by are one JSON object each, so that
-- a new one of them needs no new column.
ALTER TABLE torrent ADD COLUMN options TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(options));
-- Its place in the queue; NULL is behind all that have one, in the order in which they were added.
ALTER TABLE torrent ADD COLUMN position INTEGER;
-- It runs whatever the queue says, unless it is paused.
ALTER TABLE torrent ADD COLUMN forced INTEGER NOT NULL DEFAULT 0 CHECK (forced IN (0, 1));
-- The share limit that stopped it; NULL where none did.
ALTER TABLE torrent ADD COLUMN gave_enough TEXT CHECK (gave_enough IN ('ratio', 'seeding', 'idle'));
-- A person let it go on past its share limits.
ALTER TABLE torrent ADD COLUMN beyond_limits INTEGER NOT NULL DEFAULT 0 CHECK (beyond_limits IN (0, 1));
-- How long it has seeded, and how long of that since a byte was last sent, in seconds.
ALTER TABLE torrent ADD COLUMN seeding_s INTEGER NOT NULL DEFAULT 0 CHECK (seeding_s >= 0);
ALTER TABLE torrent ADD COLUMN idle_s INTEGER NOT NULL DEFAULT 0 CHECK (idle_s >= 0);

-- Its data is being removed, and how; the row goes with the last of it.
ALTER TABLE torrent ADD COLUMN removing TEXT CHECK (removing IN ('delete', 'trash'));

-- What was set, as a person writes it; what is not here is as the program has it.
CREATE TABLE setting (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- What carries rules for torrents: categories and tags by name, and the session, whose name is empty.
CREATE TABLE carrier (
    kind TEXT NOT NULL CHECK (kind IN ('session', 'category', 'tag')),
    name TEXT NOT NULL,
    rules TEXT NOT NULL CHECK (json_valid(rules)),
    PRIMARY KEY (kind, name)
) STRICT;

-- Lists of a node's owner, one JSON object a line: watched folders, hooks, spans of the schedule, address lists, routes.
CREATE TABLE entry (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL CHECK (json_valid(value)),
    PRIMARY KEY (kind, name)
) STRICT;
