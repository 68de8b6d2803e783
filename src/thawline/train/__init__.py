"""Training: one loop, and the parts that are passed into it."""
