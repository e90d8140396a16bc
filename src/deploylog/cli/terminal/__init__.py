"""What the command line reads from the terminal and shows on it."""
