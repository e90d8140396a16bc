"""The APIs of AWS."""
