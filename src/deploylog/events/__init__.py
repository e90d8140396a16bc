"""The log: events, and who may see them."""
