"""`make soak`: two peers under mixed load while everything that can fail does, one thing after the other."""
