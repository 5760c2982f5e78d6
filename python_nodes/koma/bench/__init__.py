"""Measurements of Koma beside its alternatives: ``make bench``; what they found is in ``docs/benchmarks.md``.

__main__   the sections of a run, one after another; each leaves ``out/bench/<section>.json``
plan       how much is measured, and the seed of everything random
finding    what a section found: tables, bars (what was demanded), plots
page       findings -> docs/benchmarks.md
plots      findings -> PNG, with matplotlib (runs in .venv-bench)
environment .venv-bench: LitServe, Ray Serve, FastAPI, matplotlib
machine    processor, versions, memory of processes
memory     memory of a server
spread     medians and spread
servers    Koma for a measurement
road       the road itself, without model time: Koma, LitServe, Ray Serve, FastAPI
batching   Poisson arrivals: Koma, whole-request batches, one at a time
setting    which checkpoints, on what, and what is asked of them
workload   requests of the three families, drawn from a seed
stock      the stock pipelines in a process of their own
table      the three-model table
scale      sockets, fan-out, a long queue, large files
start      cold start and memory
roofline   what bounds a step
full_size  the released sizes on a GPU
"""
