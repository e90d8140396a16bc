"""Subscriptions in the native API."""
