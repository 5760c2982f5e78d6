"""In-flight batching under Poisson arrivals, beside whole-request batches and one request at a time.

section   the measurement, wired
replay    arrivals to Koma over one WebSocket
observed  a model node that notes the rows of each forward
runs      what one run gave
"""
