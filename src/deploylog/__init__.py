"""Deploylog, the event log of your deployments."""

__version__ = "0.1.0"
