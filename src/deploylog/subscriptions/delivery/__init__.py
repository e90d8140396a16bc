"""Delivery: events go out to those who subscribed to them."""
