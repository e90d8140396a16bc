-- Sessions of the pages that people have ended, so that none opens a page at another process.
CREATE TABLE ended_sessions (
    id      text PRIMARY KEY,
    expires bigint NOT NULL             -- when the session is over anyway, in ns
);
CREATE INDEX ended_sessions_expires ON ended_sessions (expires);
