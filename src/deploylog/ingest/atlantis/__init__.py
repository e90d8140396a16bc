"""What Atlantis posts to its webhooks."""
