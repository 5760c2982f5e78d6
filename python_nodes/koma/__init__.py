"""Koma: the Python side. Model nodes (port, runtime, models), training, client and command line."""

__version__ = "0.1.0"
