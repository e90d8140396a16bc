-- The index of sealed segments, see events/index/sealed.py. It takes the place of an index for each
-- column and of a table of postings; what is there already is indexed when the store is opened.
CREATE TABLE segments (
    number INTEGER PRIMARY KEY,         -- position >> 16
    times  BLOB NOT NULL                -- of each block, the earliest and the latest
);
CREATE TABLE segment_terms (
    segment   INTEGER NOT NULL,
    term      TEXT NOT NULL,
    positions BLOB NOT NULL,            -- a roaring bitmap
    PRIMARY KEY (segment, term)
) WITHOUT ROWID;
CREATE TABLE segment_buckets (
    id      INTEGER PRIMARY KEY,        -- segment << 9 | bucket
    entries BLOB NOT NULL
);
CREATE TABLE segment_pages (
    segment INTEGER NOT NULL,
    first   TEXT NOT NULL,
    terms   BLOB NOT NULL,
    PRIMARY KEY (segment, first)
) WITHOUT ROWID;

DROP INDEX events_type;
DROP INDEX events_source;
DROP INDEX events_actor;
DROP INDEX events_resource_type;
DROP INDEX events_resource_name;
DROP INDEX events_public;
DROP TABLE postings;
DROP TABLE scopes;
DROP TABLE event_groups;
DROP TABLE spans;
