"""What HCP Terraform posts to its webhooks."""
