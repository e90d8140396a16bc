"""From credentials to principals."""
