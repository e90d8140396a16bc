-- The attempts of an event.
CREATE INDEX attempts_position ON attempts (position);
