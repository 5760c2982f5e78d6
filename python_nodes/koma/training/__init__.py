"""Emoji World and the five training runs of the small checkpoints."""
