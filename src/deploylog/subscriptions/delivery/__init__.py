"""Delivery: workers send events to the endpoints of subscriptions."""
