"""Attacks within a key's rights, and what a well-behaved client notices of them."""
