"""The alternatives, each with the no-op of its own documentation: one worker, nothing stored."""
