"""What GitHub posts to its webhooks."""
