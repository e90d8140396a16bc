"""What GitLab posts to its webhooks."""
