"""The documentation of the APIs as pages: a viewer that sends requests, and a text."""
