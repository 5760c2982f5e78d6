"""The toy family: deterministic and without torch; for tests of the road that every job travels."""
