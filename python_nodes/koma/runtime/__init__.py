"""The engine of a model node: in-flight batching over a :class:`koma.runtime.runner.Runner`.

``intake`` (submit → checked request) · ``roster`` (who is inside, where a job ends) · ``engine`` (the loop) ·
``batches`` (who runs next) · ``pace`` (estimates) · ``workers`` (threads) · ``results`` (outputs → done) ·
``failures`` and ``memory`` (exceptions → failed).
"""
