-- The words of the API before its first release: what is stored takes them, too.
ALTER TABLE pending RENAME COLUMN parked TO dead_lettered;
DROP INDEX pending_parked;
CREATE INDEX pending_dead_lettered ON pending (subscription, position) WHERE dead_lettered;
UPDATE attempts SET result = 'dead_lettered' WHERE result = 'parked';
UPDATE subscriptions SET "order" = 'per_deployment' WHERE "order" = 'lane';
UPDATE subscriptions
SET owner = json_set(owner, '$.kind', 'anonymous', '$.name', 'anonymous')
WHERE json_extract(owner, '$.kind') = 'anybody';
