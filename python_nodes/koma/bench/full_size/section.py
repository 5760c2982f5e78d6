"""The section ``full_size``: the released sizes on a GPU, with random weights in bfloat16."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from koma.bench.batching import section as batching
from koma.bench.finding import Finding
from koma.bench.full_size import checkpoints
from koma.bench.plan import Plan
from koma.bench.roofline import section as roofline
from koma.bench.setting import Setting
from koma.bench.table import section as table
from koma.cli.server_process import home

PARAMS = {
    "smolvlm2": {},
    "amused": {"width": 256, "height": 256, "guidance_scale": 10.0},
    "ltx_video": {"width": 512, "height": 320, "frames": 97, "fps": 25, "guidance_scale": 3.0},
}
FASTER = 3.0

TEXT = """SmolVLM2 256M, aMUSEd 256 and LTX-Video 2B (0.9.5) with random weights: the work is that of the
released checkpoints, the results are noise. Koma and the stock pipelines both run on the GPU in bfloat16,
as in the sections above. Images of 256 × 256 px, videos of 512 × 320 px and 97 frames."""


def measure(plan: Plan) -> Finding | None:
    """Measure; where there is no GPU, say so and return None."""
    if not torch.cuda.is_available():
        plan.say("not measured: this machine has no GPU")
        return None
    finding = Finding("full_size", "Released sizes, on a GPU", f"{TEXT} GPU: {torch.cuda.get_device_name()}.")
    with TemporaryDirectory(prefix="koma-full-size-") as folder:
        plan.say("checkpoints of the released sizes are written")
        configs = home() / "tests" / "models" / "configs"
        built = checkpoints.build(configs, Path(folder), "cuda", "bfloat16")
        setting = Setting(built, PARAMS, "cuda", "bfloat16", faster=FASTER)
        batching.measure_families(
            plan, setting, plan.pick((1.0, batching.SATURATION), (batching.SATURATION,)), finding
        )
        roofline.measure_steps(plan, setting, finding)
        table.measure_workloads(plan, setting, table.CLAIMED, finding)
    return finding
