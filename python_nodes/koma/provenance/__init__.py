"""Says of every picture and video that a machine made it: an invisible mark in the pixels, a signed
statement in the file.

    pixels → mark (``mark/``) → encode (``koma.models.media.encode``) → sign (``signing/``) → file

The engine opens a :class:`koma.provenance.step.Session` around the end of every job, so a family cannot
forget it. ``docs/provenance.md`` tells an operator what the marks withstand and what they do not.
"""
