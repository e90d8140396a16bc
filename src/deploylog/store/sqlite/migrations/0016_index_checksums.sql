-- What is stored of a segment has checksums, see events/index/blobs.py: segments that have none are
-- sealed again when the store is opened.
DELETE FROM segment_terms;
DELETE FROM segment_buckets;
DELETE FROM segment_pages;
DELETE FROM segment_identities;
DELETE FROM segments;
