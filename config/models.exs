# The model nodes of this peer: one Python process for each entry and count.
#
#   name        of the entry; its processes are called name-1, name-2, ...
#   family      smolvlm2 | amused | ltx_video | toy, or one that a package brings (docs/families.md)
#   checkpoint  "default", a name below python_nodes/koma/checkpoints, a folder, or a hub id
#   count       how many processes
#   slots       how many jobs one process runs at the same time, sharing forward passes
#   threads     of one process on a processor; without it as many as there are cores. One is fastest for
#               the small checkpoints that ship, also for a single request; large ones want more
#   hang_timeout_ms  how long an operation may give no sign of life before the process is killed as hung
#               (120000). Signs come with every layer and frame; a layer of a very large checkpoint on a
#               processor may take longer
#   device      auto | cpu | cuda | cuda:0 ...
#   dtype       auto | float32 | bfloat16 | float16
#   options     handed to the family as they are
[
  %{name: "smolvlm2", family: "smolvlm2", checkpoint: "emoji", count: 1, slots: 8, threads: 1},
  %{name: "amused", family: "amused", checkpoint: "emoji", count: 1, slots: 8, threads: 1},
  %{name: "ltx_video", family: "ltx_video", checkpoint: "emoji", count: 1, slots: 8, threads: 1}
]
