"""Stacks, deployments and change sets, projected from events."""
