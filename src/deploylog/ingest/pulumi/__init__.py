"""What Pulumi Cloud posts to its webhooks."""
