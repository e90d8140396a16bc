"""Conversion of other tools' output to events."""
