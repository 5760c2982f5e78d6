"""aMUSEd paints images: a U-ViT fills masked image tokens in a few steps, a VQ model turns tokens into
pixels.

params   what a client may ask for
parts    the modules of a checkpoint
encode   prompt -> embeddings, request -> state
schedule how many tokens stay masked after each step
step     one forward for all rows in flight
sampling logits -> tokens, for all rows at once
decode   tokens -> pixels
runner   the phases, wired
"""
