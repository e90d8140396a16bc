"""What tools that speak CDEvents post."""
