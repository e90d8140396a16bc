CREATE TABLE changesets (
    number       INTEGER PRIMARY KEY,  -- the order in which they were added
    id           TEXT NOT NULL UNIQUE COLLATE NOCASE,
    project      TEXT NOT NULL,
    stack_id     TEXT,
    stack        TEXT,
    status       TEXT NOT NULL,
    destroy      INTEGER NOT NULL,
    location     TEXT NOT NULL,
    tool         TEXT NOT NULL,
    tool_version TEXT,
    actor        TEXT,
    created      INTEGER NOT NULL,
    ended        INTEGER,
    message      TEXT,
    totals       TEXT NOT NULL,        -- JSON object
    scopes       TEXT NOT NULL,        -- JSON array
    "groups"     TEXT NOT NULL,        -- JSON array
    request      TEXT NOT NULL,        -- the key of the request that added it
    fingerprint  BLOB NOT NULL
);
CREATE INDEX changesets_request ON changesets (request, created);
CREATE INDEX changesets_unfinished ON changesets (number) WHERE status = 'staging';
CREATE INDEX changesets_finished ON changesets (created) WHERE status <> 'staging';

-- Apart, because a list does not read them, and they may be large.
CREATE TABLE changeset_changes (
    number   INTEGER PRIMARY KEY REFERENCES changesets (number),
    document BLOB NOT NULL             -- zlib
);

CREATE TABLE cleanups (
    number    INTEGER PRIMARY KEY,     -- the order in which they were begun
    id        TEXT NOT NULL UNIQUE COLLATE NOCASE,
    kind      TEXT NOT NULL,
    status    TEXT NOT NULL,
    started   INTEGER NOT NULL,
    ended     INTEGER,
    threshold INTEGER NOT NULL,
    forgotten INTEGER NOT NULL,
    error     TEXT
);

CREATE TABLE signers (
    kind     TEXT NOT NULL,
    id       TEXT NOT NULL,
    name     TEXT NOT NULL,
    sealed   BLOB NOT NULL,
    "groups" TEXT NOT NULL,            -- JSON array
    grants   TEXT NOT NULL,            -- JSON array
    created  INTEGER NOT NULL,
    revoked  INTEGER,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
