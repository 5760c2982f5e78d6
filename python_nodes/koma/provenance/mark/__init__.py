"""The invisible mark: 40 bits of an id and 4 bits of a version in the pixels of a picture.

``pattern``: what the key decides. ``blocks``: pixels ⇄ the coefficients that carry the mark. ``code``: bits
⇄ coded bits. ``payload``: what the bits mean. ``embed``: writes the mark. ``evidence``: how sure it is that
a mark is there. ``search``: where it may lie in a picture. ``detect``: reads it. Needs numpy and Pillow only.
"""
