CREATE TABLE subscriptions (
    number        INTEGER PRIMARY KEY,  -- the order in which they were added
    id            TEXT NOT NULL UNIQUE,
    name          TEXT NOT NULL,
    kind          TEXT NOT NULL,
    format        TEXT NOT NULL,
    filter        TEXT NOT NULL,        -- JSON object
    "order"       TEXT NOT NULL,
    state         TEXT NOT NULL,
    reason        TEXT,
    owner         TEXT NOT NULL,        -- JSON object
    target        BLOB NOT NULL,        -- sealed
    shown         TEXT NOT NULL,
    secrets       TEXT NOT NULL,        -- JSON array; each secret sealed
    created       INTEGER NOT NULL,
    collection    TEXT NOT NULL,
    version       INTEGER NOT NULL,
    checkpoint    INTEGER NOT NULL,
    failing_since INTEGER,
    -- Which process delivers, and for how long.
    holder        TEXT NOT NULL DEFAULT '',
    held_until    INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX subscriptions_collection ON subscriptions (collection) WHERE collection <> '';

-- Events at or below the checkpoint that did not arrive.
CREATE TABLE pending (
    subscription INTEGER NOT NULL REFERENCES subscriptions (number),
    parked       INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    lane         TEXT NOT NULL,
    tries        INTEGER NOT NULL,
    first        INTEGER,
    due          INTEGER NOT NULL,
    error        TEXT,
    PRIMARY KEY (subscription, position)
) WITHOUT ROWID;
CREATE INDEX pending_parked ON pending (subscription, position) WHERE parked;

CREATE TABLE attempts (
    number       INTEGER PRIMARY KEY,   -- the order in which they were recorded
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
CREATE INDEX attempts_subscription ON attempts (subscription);

-- Slack messages that stand for a deployment.
CREATE TABLE messages (
    subscription INTEGER NOT NULL REFERENCES subscriptions (number),
    deployment   TEXT NOT NULL,
    channel      TEXT NOT NULL,
    ts           TEXT NOT NULL,
    PRIMARY KEY (subscription, deployment)
) WITHOUT ROWID;
