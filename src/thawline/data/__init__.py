"""Data: whatever the user has becomes checked examples by split. `dataset.load` is the single entry."""
