-- The schema that the peer keeps: Deploylog's of 2026-11-28, before its index (migrations 1 to 7).
CREATE TABLE log (
    epoch    INTEGER NOT NULL,
    head     INTEGER NOT NULL,
    floor    INTEGER NOT NULL,
    recorded INTEGER NOT NULL
, unchecked INTEGER NOT NULL DEFAULT 0);
CREATE TABLE events (
    position         INTEGER PRIMARY KEY,
    recorded         INTEGER NOT NULL,
    time             INTEGER NOT NULL,
    source           TEXT NOT NULL,
    producer_id      TEXT,
    type             TEXT NOT NULL,
    subject          TEXT,
    scopes           TEXT NOT NULL,
    "groups"         TEXT,
    actor            TEXT,
    resource_type    TEXT,
    resource_name    TEXT,
    resource_key     TEXT,
    resource_address TEXT,
    id_key           TEXT,
    id_value         TEXT,
    elapsed          INTEGER,
    message          TEXT,
    data             TEXT,
    extensions       TEXT
, checksum INTEGER);
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
CREATE TABLE spans (
    block    INTEGER PRIMARY KEY,
    earliest INTEGER NOT NULL,
    latest   INTEGER NOT NULL
);
CREATE TABLE requests (
    key         TEXT PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    positions   TEXT NOT NULL,
    newest      INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE stacks (
    id       TEXT PRIMARY KEY,
    project  TEXT NOT NULL,
    name     TEXT NOT NULL,
    created  INTEGER NOT NULL,
    deleted  INTEGER,
    scopes   TEXT NOT NULL,
    "groups" TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE deployments (
    number      INTEGER PRIMARY KEY,
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
CREATE TABLE changesets (
    number       INTEGER PRIMARY KEY,
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
    totals       TEXT NOT NULL,
    scopes       TEXT NOT NULL,
    "groups"     TEXT NOT NULL,
    request      TEXT NOT NULL,
    fingerprint  BLOB NOT NULL
);
CREATE TABLE changeset_changes (
    number   INTEGER PRIMARY KEY REFERENCES changesets (number),
    document BLOB NOT NULL
);
CREATE TABLE cleanups (
    number    INTEGER PRIMARY KEY,
    id        TEXT NOT NULL UNIQUE COLLATE NOCASE,
    kind      TEXT NOT NULL,
    status    TEXT NOT NULL,
    started   INTEGER NOT NULL,
    ended     INTEGER,
    threshold INTEGER NOT NULL,
    forgotten INTEGER NOT NULL,
    error     TEXT
);
CREATE TABLE states (
    path TEXT PRIMARY KEY
) WITHOUT ROWID;
CREATE TABLE subscriptions (
    number        INTEGER PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE,
    name          TEXT NOT NULL,
    kind          TEXT NOT NULL,
    format        TEXT NOT NULL,
    filter        TEXT NOT NULL,
    "order"       TEXT NOT NULL,
    state         TEXT NOT NULL,
    reason        TEXT,
    owner         TEXT NOT NULL,
    target        BLOB NOT NULL,
    shown         TEXT NOT NULL,
    secrets       TEXT NOT NULL,
    created       INTEGER NOT NULL,
    collection    TEXT NOT NULL,
    version       INTEGER NOT NULL,
    checkpoint    INTEGER NOT NULL,
    failing_since INTEGER,

    holder        TEXT NOT NULL DEFAULT '',
    held_until    INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE pending (
    subscription INTEGER NOT NULL REFERENCES subscriptions (number),
    dead_lettered       INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    lane         TEXT NOT NULL,
    tries        INTEGER NOT NULL,
    first        INTEGER,
    due          INTEGER NOT NULL,
    error        TEXT,
    PRIMARY KEY (subscription, position)
) WITHOUT ROWID;
CREATE TABLE attempts (
    number       INTEGER PRIMARY KEY,
    subscription INTEGER NOT NULL REFERENCES subscriptions (number),
    position     INTEGER NOT NULL,
    event        TEXT NOT NULL,
    started      INTEGER NOT NULL,
    latency      INTEGER NOT NULL,
    result       TEXT NOT NULL,
    status       INTEGER,
    error        TEXT,
    response     TEXT NOT NULL,
    due          INTEGER
);
CREATE TABLE messages (
    subscription INTEGER NOT NULL REFERENCES subscriptions (number),
    deployment   TEXT NOT NULL,
    channel      TEXT NOT NULL,
    ts           TEXT NOT NULL,
    PRIMARY KEY (subscription, deployment)
) WITHOUT ROWID;
CREATE TABLE token_key (
    value BLOB NOT NULL
);
CREATE TABLE credentials (
    kind     TEXT NOT NULL,
    id       TEXT PRIMARY KEY,
    name     TEXT NOT NULL,
    secret   BLOB NOT NULL,
    "groups" TEXT NOT NULL,
    grants   TEXT NOT NULL,
    created  INTEGER NOT NULL,
    revoked  INTEGER
) WITHOUT ROWID;
CREATE INDEX events_producer ON events (producer_id, source) WHERE producer_id IS NOT NULL;
CREATE INDEX events_type ON events (type);
CREATE INDEX events_source ON events (source);
CREATE INDEX events_actor ON events (actor) WHERE actor IS NOT NULL;
CREATE INDEX events_resource_type ON events (resource_type) WHERE resource_type IS NOT NULL;
CREATE INDEX events_resource_name ON events (resource_name) WHERE resource_name IS NOT NULL;
CREATE INDEX events_public ON events (position) WHERE "groups" IS NULL;
CREATE INDEX requests_newest ON requests (newest);
CREATE UNIQUE INDEX stacks_name ON stacks (project, name) WHERE deleted IS NULL;
CREATE INDEX changesets_request ON changesets (request, created);
CREATE INDEX changesets_unfinished ON changesets (number) WHERE status = 'staging';
CREATE INDEX changesets_finished ON changesets (created) WHERE status <> 'staging';
CREATE INDEX subscriptions_collection ON subscriptions (collection) WHERE collection <> '';
CREATE INDEX attempts_subscription ON attempts (subscription);
CREATE INDEX pending_dead_lettered ON pending (subscription, position) WHERE dead_lettered;
