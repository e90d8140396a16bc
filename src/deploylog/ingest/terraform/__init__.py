"""Terraform's output, as events."""
