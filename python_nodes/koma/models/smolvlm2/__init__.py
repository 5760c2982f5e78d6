"""SmolVLM2 understands videos and images: a vision tower makes tokens of frames, a language model answers.

    params   what a client may ask for
    parts    the modules of a checkpoint
    vision   video or image -> frame features and their place in the prompt
    encode   prompt -> token ids, request -> state with the prompt's keys and values
    cache    keys and values of all rows in flight
    step     one forward for all rows in flight, one token each
    text     tokens -> text that is certain
    runner   the phases, wired

Why an own decoding loop: transformers' continuous batching (5.23) takes token ids only, runs in a thread of
its own and has one seed for all requests; the engine here decides who takes part in each forward, and every
job has its own seed.
"""
