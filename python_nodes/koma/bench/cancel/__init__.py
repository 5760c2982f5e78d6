"""How soon a cancel frees the machine.

inputs    a clip that takes long to decode, and a picture
phases    the jobs, each with the phase in which it is cancelled
section   the section of ``make bench``
"""
