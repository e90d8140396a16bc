"""What was deployed: projects, stacks, deployments, change sets."""
