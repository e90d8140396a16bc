"""The Escape dialect: EscapeKit's event service."""
