"""What other tools post."""
