"""Pages for people: rendered by the service, and kept live by small ES modules."""
