"""What the terminal shows and reads."""
