"""How far a step is from what the machine can do: its operations and bytes, beside measured ceilings.

section   the measurement, wired
counts    operations and bytes of a step
ceilings  what the machine does at best
"""
