-- The processes that deliver, and until when each is here (ns): they share the subscriptions.
CREATE TABLE holders (
    holder TEXT PRIMARY KEY,
    until  INTEGER NOT NULL
) WITHOUT ROWID;
