"""Cold start and memory.

section    the measurements, wired
cold       from the start of a server to its first result
in_flight  what a request in flight adds to a model node
full_size  what the released checkpoints would take, from their configurations
"""
