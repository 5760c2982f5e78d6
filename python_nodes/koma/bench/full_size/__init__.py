"""The released configurations with random weights, where there is a GPU: how fast, not how good.

checkpoints  configurations -> checkpoints that Koma and the stock pipelines load
section      the measurement, wired
"""
