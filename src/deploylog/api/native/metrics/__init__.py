"""DORA's metrics in the native API."""
