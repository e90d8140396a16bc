"""Slack's messages."""
