"""Pretrained models: where they come from, and where they can be cut."""
