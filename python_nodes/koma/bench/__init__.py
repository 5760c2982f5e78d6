"""Measurements of a running Koma: ``python -m koma.bench`` prints them and writes ``docs/benchmarks.md``."""
