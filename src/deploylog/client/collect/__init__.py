"""Collecting: events that have to be fetched from where they happen."""
