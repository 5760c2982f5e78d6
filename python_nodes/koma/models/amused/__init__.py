"""aMUSEd paints images: a U-ViT fills masked image tokens in a few steps, a VQ model turns tokens into
pixels.

params   what a client may ask for
parts    the modules of a checkpoint
encode   prompt -> embeddings, request -> state
step     one forward for all rows in flight
decode   tokens -> pixels
runner   the phases, wired
"""
