"""The model families, and what they share: checkpoints, devices, parameters, media.

Importing this package, before torch, tells OpenMP to sleep while it waits. By default its threads spin;
with more threads than free cores (several model nodes on one machine) they then take the cores from those
they wait for: a step of a small model took 15 to 25 times as long on 2 busy cores, measured with libgomp
and PyTorch 2.13.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
