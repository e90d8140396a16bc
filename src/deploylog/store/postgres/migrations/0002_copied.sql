-- One row while the store is a copy that was not opened yet: of which log, and whether it is whole.
CREATE TABLE copied (
    epoch bigint NOT NULL,
    whole boolean NOT NULL
);
