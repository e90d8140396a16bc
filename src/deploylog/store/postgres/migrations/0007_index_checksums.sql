-- What is stored of a segment has checksums, see events/index/blobs.py: segments that have none are
-- sealed again when the store is opened.
TRUNCATE segment_terms, segment_buckets, segment_pages, segments;
