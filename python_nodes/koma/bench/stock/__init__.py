"""The stock pipelines in a process of their own, as a plain script would use them.

pipelines  each family loaded and called as its documentation shows
server     runs arrivals one at a time, or in batches of whole requests
process    the same as a child process of a measurement
"""
