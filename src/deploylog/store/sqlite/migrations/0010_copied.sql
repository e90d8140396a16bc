-- One row while the store is a copy that was not opened yet: of which log, and whether it is whole.
CREATE TABLE copied (
    epoch INTEGER NOT NULL,
    whole INTEGER NOT NULL
);
