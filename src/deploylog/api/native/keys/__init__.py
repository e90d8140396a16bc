"""Keys in the native API."""
