"""What every API needs of HTTP."""
