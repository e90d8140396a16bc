-- Bitmaps out of the way of the terms. In a table without rowids each page of the tree holds a few
-- of them, so that a search for a term read some ten pages in each segment; an index has none.
CREATE TABLE terms (
    segment   INTEGER NOT NULL,
    term      TEXT NOT NULL,
    positions BLOB NOT NULL             -- a roaring bitmap
);
INSERT INTO terms SELECT segment, term, positions FROM segment_terms;
DROP TABLE segment_terms;
ALTER TABLE terms RENAME TO segment_terms;
CREATE UNIQUE INDEX segment_terms_of ON segment_terms (segment, term);

CREATE TABLE pages (
    segment INTEGER NOT NULL,
    first   TEXT NOT NULL,
    terms   BLOB NOT NULL
);
INSERT INTO pages SELECT segment, first, terms FROM segment_pages;
DROP TABLE segment_pages;
ALTER TABLE pages RENAME TO segment_pages;
CREATE UNIQUE INDEX segment_pages_of ON segment_pages (segment, first);
