"""The signed statement in the file, in the format of C2PA.

``keys``: the server's own certificate authority and key. ``chain``: what signs, also an operator's own chain.
``statement``: what is said. ``files``: writes the statement into a file and reads it back.
"""
