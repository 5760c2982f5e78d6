"""The detector: which marks a file bears. A process of its own without torch, started by the gateway.

``report``: what is found in one file, layer by layer. ``__main__``: the process. The gateway judges
(``lib/koma/provenance/verdict.ex``).
"""
