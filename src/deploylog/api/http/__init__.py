"""HTTP pieces that every API shares."""
