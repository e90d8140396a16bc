"""Ways in: what other programs say, as events."""
