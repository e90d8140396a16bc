"""Any command: its output as lines of a log, and its end."""
