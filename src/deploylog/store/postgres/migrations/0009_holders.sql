-- The processes that deliver, and until when each is here (ns): they share the subscriptions.
CREATE TABLE holders (
    holder text PRIMARY KEY,
    until  bigint NOT NULL
);
