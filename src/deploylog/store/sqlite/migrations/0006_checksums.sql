-- A checksum of each event, see store/checksums.py. Events that are there already get theirs
-- bit by bit, once the service runs: at first it has none, and 'unchecked' says up to where.
ALTER TABLE events ADD COLUMN checksum INTEGER;
ALTER TABLE log ADD COLUMN unchecked INTEGER NOT NULL DEFAULT 0;
UPDATE log SET unchecked = head;
