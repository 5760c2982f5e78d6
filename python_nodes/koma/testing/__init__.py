"""Public test seams: samples of every message, scripted runners, and the kit that every runner must pass."""
