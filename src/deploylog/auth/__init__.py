"""Authentication: from credentials to principals."""
