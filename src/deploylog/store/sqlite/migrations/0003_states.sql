-- The scopes state/<project>/<environment>/<deployment> in which something was ever deployed: what
-- the events say, and remembered when they are forgotten.
CREATE TABLE states (
    path TEXT PRIMARY KEY
) WITHOUT ROWID;
