-- What a subscription is about by names, see subscriptions/places.py; and names that are unique for
-- an owner. Of those that were not, all but the oldest get a number.
ALTER TABLE subscriptions ADD COLUMN places TEXT NOT NULL DEFAULT '{}';
UPDATE subscriptions SET name = substr(name, 1, 100) || ' ' || number
WHERE collection = '' AND EXISTS (
    SELECT 1 FROM subscriptions AS older
    WHERE older.collection = '' AND older.number < subscriptions.number
        AND older.name = subscriptions.name
        AND json_extract(older.owner, '$.kind') = json_extract(subscriptions.owner, '$.kind')
        AND json_extract(older.owner, '$.id') = json_extract(subscriptions.owner, '$.id')
);
CREATE UNIQUE INDEX subscriptions_name ON subscriptions
    (json_extract(owner, '$.kind'), json_extract(owner, '$.id'), name) WHERE collection = '';
