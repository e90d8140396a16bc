-- What an attempt sent, and the id that a receiver gave to what was posted, in Slack or elsewhere.
ALTER TABLE attempts ADD COLUMN request TEXT NOT NULL DEFAULT '';
ALTER TABLE messages RENAME COLUMN ts TO id;
