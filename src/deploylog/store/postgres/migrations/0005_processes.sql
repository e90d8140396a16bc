-- What several processes must know of each other.
-- Until when the process that runs a cleanup says so, in ns.
ALTER TABLE cleanups ADD COLUMN held_until bigint NOT NULL DEFAULT 0;
-- Signatures of requests that act, so that none acts again at another process.
CREATE TABLE signatures (
    digest  bytea PRIMARY KEY,
    seen    bigint NOT NULL,
    expires bigint NOT NULL
);
CREATE INDEX signatures_expires ON signatures (expires);
