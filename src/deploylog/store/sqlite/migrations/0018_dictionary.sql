-- What the events of a block share is stored once, see store/sqlite/dictionary.py. Rows that are
-- there already keep it themselves. "events" is what it was: an event's columns.
ALTER TABLE events RENAME TO event_rows;
ALTER TABLE event_rows ADD COLUMN context INTEGER;
ALTER TABLE event_rows ADD COLUMN kind INTEGER;

CREATE TABLE event_contexts (
    id       INTEGER PRIMARY KEY,        -- block << 14 | number
    source   TEXT NOT NULL,
    scopes   TEXT NOT NULL,
    "groups" TEXT,
    actor    TEXT
);
CREATE TABLE event_kinds (
    id            INTEGER PRIMARY KEY,   -- block << 14 | number
    type          TEXT NOT NULL,
    resource_type TEXT,
    id_key        TEXT
);

CREATE VIEW events AS
SELECT
    e.position,
    e.recorded,
    e.time,
    CASE WHEN e.context IS NULL THEN e.source ELSE c.source END AS source,
    e.producer_id,
    CASE WHEN e.kind IS NULL THEN e.type ELSE k.type END AS type,
    e.subject,
    CASE WHEN e.context IS NULL THEN e.scopes ELSE c.scopes END AS scopes,
    CASE WHEN e.context IS NULL THEN e."groups" ELSE c."groups" END AS "groups",
    CASE WHEN e.context IS NULL THEN e.actor ELSE c.actor END AS actor,
    CASE WHEN e.kind IS NULL THEN e.resource_type ELSE k.resource_type END AS resource_type,
    e.resource_name,
    e.resource_key,
    e.resource_address,
    CASE WHEN e.kind IS NULL THEN e.id_key ELSE k.id_key END AS id_key,
    e.id_value,
    e.elapsed,
    e.message,
    e.data,
    e.extensions,
    e.checksum
FROM event_rows AS e
LEFT JOIN event_contexts AS c ON c.id = (e.position >> 14 << 14) + e.context
LEFT JOIN event_kinds AS k ON k.id = (e.position >> 14 << 14) + e.kind;
