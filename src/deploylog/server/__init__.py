"""The server: settings, composition, processes."""
