-- One row about the log itself.
CREATE TABLE log (
    epoch    INTEGER NOT NULL,
    head     INTEGER NOT NULL,  -- the newest position ever given
    floor    INTEGER NOT NULL,  -- everything at or below it is forgotten
    recorded INTEGER NOT NULL   -- when the head was recorded; the next event is not earlier
);

CREATE TABLE events (
    position         INTEGER PRIMARY KEY,
    recorded         INTEGER NOT NULL,
    time             INTEGER NOT NULL,
    source           TEXT NOT NULL,
    producer_id      TEXT,
    type             TEXT NOT NULL,
    subject          TEXT,
    scopes           TEXT NOT NULL,  -- JSON array
    "groups"         TEXT,           -- JSON array, NULL when there are none
    actor            TEXT,
    resource_type    TEXT,
    resource_name    TEXT,
    resource_key     TEXT,
    resource_address TEXT,
    id_key           TEXT,
    id_value         TEXT,
    elapsed          INTEGER,
    message          TEXT,
    data             TEXT,           -- JSON
    extensions       TEXT            -- JSON object
);

-- Each of these ends in the position, so a value's events are one range, in order.
-- Not unique: of two projects each may use an id, and neither learns of the other.
CREATE INDEX events_producer ON events (producer_id, source) WHERE producer_id IS NOT NULL;
CREATE INDEX events_type ON events (type);
CREATE INDEX events_source ON events (source);
CREATE INDEX events_actor ON events (actor) WHERE actor IS NOT NULL;
CREATE INDEX events_resource_type ON events (resource_type) WHERE resource_type IS NOT NULL;
CREATE INDEX events_resource_name ON events (resource_name) WHERE resource_name IS NOT NULL;
CREATE INDEX events_public ON events (position) WHERE "groups" IS NULL;

-- Every prefix of every scope of an event.
CREATE TABLE scopes (
    scope_id INTEGER PRIMARY KEY,
    path     TEXT NOT NULL UNIQUE
);
CREATE TABLE postings (
    scope_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (scope_id, position)
) WITHOUT ROWID;

CREATE TABLE event_groups (
    "group"  TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY ("group", position)
) WITHOUT ROWID;

-- The times that a block of 1,024 positions spans: where a time range can be, and where not.
CREATE TABLE spans (
    block    INTEGER PRIMARY KEY,  -- position >> 10
    earliest INTEGER NOT NULL,
    latest   INTEGER NOT NULL
);

-- What a request with an Idempotency-Key recorded.
CREATE TABLE requests (
    key         TEXT PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    positions   TEXT NOT NULL,     -- JSON array
    newest      INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX requests_newest ON requests (newest);

CREATE TABLE stacks (
    id       TEXT PRIMARY KEY,
    project  TEXT NOT NULL,
    name     TEXT NOT NULL,
    created  INTEGER NOT NULL,
    deleted  INTEGER,
    scopes   TEXT NOT NULL,
    "groups" TEXT NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX stacks_name ON stacks (project, name) WHERE deleted IS NULL;

CREATE TABLE deployments (
    number      INTEGER PRIMARY KEY,  -- the order in which they were recorded
    id          TEXT NOT NULL UNIQUE,
    project     TEXT NOT NULL,
    stack_id    TEXT NOT NULL REFERENCES stacks (id),
    status      TEXT NOT NULL,
    started     INTEGER NOT NULL,
    ended       INTEGER,
    tool        TEXT,
    operation   TEXT,
    environment TEXT,
    actor       TEXT,
    message     TEXT,
    added       INTEGER NOT NULL DEFAULT 0,
    changed     INTEGER NOT NULL DEFAULT 0,
    destroyed   INTEGER NOT NULL DEFAULT 0,
    failed      INTEGER NOT NULL DEFAULT 0,
    scopes      TEXT NOT NULL,
    "groups"    TEXT NOT NULL
);

CREATE TABLE keys (
    id       TEXT PRIMARY KEY,
    name     TEXT NOT NULL,
    digest   BLOB NOT NULL,
    "groups" TEXT NOT NULL,
    grants   TEXT NOT NULL,
    created  INTEGER NOT NULL,
    revoked  INTEGER
) WITHOUT ROWID;
