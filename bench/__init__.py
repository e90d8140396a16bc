"""Measurements and a crash test: each module here is a program, ``python -m bench.ingest``."""
