-- The words of the API before its first release: what is stored takes them, too.
ALTER TABLE pending RENAME COLUMN parked TO dead_lettered;
DROP INDEX pending_parked;
CREATE INDEX pending_dead_lettered ON pending (subscription, position) WHERE dead_lettered;
UPDATE attempts SET result = 'dead_lettered' WHERE result = 'parked';
UPDATE subscriptions SET "order" = 'per_deployment' WHERE "order" = 'lane';
UPDATE subscriptions
SET owner = json_set(owner, '$.kind', 'anonymous', '$.name', 'anonymous')
WHERE json_extract(owner, '$.kind') = 'anybody';

-- API keys and access keys are one kind of thing, and no two of them share an id.
CREATE TABLE credentials (
    kind     TEXT NOT NULL,
    id       TEXT PRIMARY KEY,
    name     TEXT NOT NULL,
    secret   BLOB NOT NULL,             -- of an API key its hash; else encrypted
    "groups" TEXT NOT NULL,             -- JSON array
    grants   TEXT NOT NULL,             -- JSON array
    created  INTEGER NOT NULL,
    revoked  INTEGER
) WITHOUT ROWID;
INSERT INTO credentials
SELECT 'key', id, name, digest, "groups", grants, created, revoked FROM keys;
INSERT INTO credentials
SELECT kind, id, name, sealed, "groups", grants, created, revoked FROM signers;
DROP TABLE keys;
DROP TABLE signers;
