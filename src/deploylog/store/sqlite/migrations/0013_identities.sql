-- The identities of sealed segments, see events/index/identities.py. They take the place of an
-- index; those of the segments that are there already are sealed when the store is opened.
CREATE TABLE segment_identities (
    id      INTEGER PRIMARY KEY,        -- segment << 8 | bucket
    entries BLOB NOT NULL
);
ALTER TABLE segments ADD COLUMN identities INTEGER;   -- how many; NULL before they are sealed
DROP INDEX events_producer;
