-- One row: what tokens that lead to a page are signed with.
CREATE TABLE token_key (
    value BLOB NOT NULL
);
INSERT INTO token_key VALUES (randomblob(32));
