"""What Flux posts to its webhooks."""
