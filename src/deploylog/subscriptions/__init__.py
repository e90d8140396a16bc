"""Who is called when something happens, and every attempt."""
