-- What a subscription is about by names, see subscriptions/places.py; and names that are unique for
-- an owner. Of those that were not, all but the oldest get a number.
ALTER TABLE subscriptions ADD COLUMN places text NOT NULL DEFAULT '{}';
UPDATE subscriptions SET name = left(name, 100) || ' ' || number
WHERE collection = '' AND EXISTS (
    SELECT 1 FROM subscriptions AS older
    WHERE older.collection = '' AND older.number < subscriptions.number
        AND older.name = subscriptions.name
        AND older.owner::jsonb ->> 'kind' = subscriptions.owner::jsonb ->> 'kind'
        AND older.owner::jsonb ->> 'id' = subscriptions.owner::jsonb ->> 'id'
);
CREATE UNIQUE INDEX subscriptions_name ON subscriptions
    ((owner::jsonb ->> 'kind'), (owner::jsonb ->> 'id'), name) WHERE collection = '';
