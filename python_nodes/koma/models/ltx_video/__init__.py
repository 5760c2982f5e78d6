"""LTX-Video makes videos: a transformer denoises video tokens by rectified flow, a causal VAE makes frames
of them.

params   what a client may ask for
parts    the modules of a checkpoint
encode   prompt -> embeddings, first image -> latents, request -> state
step     one forward for all rows in flight
decode   latents -> frames
runner   the phases, wired
"""
