"""What learns, how fast, and when."""
