"""The section ``marks``: what the invisible mark withstands, what it costs, and false positives.

``pictures``: photos and renderings to mark. ``changes``: what happens to them. ``found``: how often the mark
is read again. ``unmarked``: the scores of pictures without a mark. ``cost``: time, bytes and likeness.
``share``: which part of a job's time the marks take.
"""
