"""The clip that `koma demo` sends: a scene of a combination that training never sees.

`python -m koma.training.demo_clip` writes `priv/demo/input.mp4`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from koma.models.media.encode import write_mp4
from koma.training.world.catalogue import BACKGROUNDS, MOTIONS, OBJECTS
from koma.training.world.render import Renderer
from koma.training.world.scene import Scene, batch_of, held_out, sample_scenes

OBJECT, BACKGROUND, MOTION = "sailboat", "sea", "right"
SIZE = 256
FPS = 8


def demo_scene() -> Scene:
    """The first held-out scene with one sailboat that goes right over the sea."""
    for scene in sample_scenes(10_000, seed=0, split="heldout", objects=(1,)):
        (kind,) = scene.kinds
        named = (OBJECTS[kind].name, BACKGROUNDS[scene.background], MOTIONS[scene.motion])
        if named == (OBJECT, BACKGROUND, MOTION):
            assert held_out(kind, scene.background, scene.motion)
            return scene
    raise LookupError(f"no held-out scene shows {OBJECT}, {BACKGROUND}, {MOTION}")


def write(path: Path) -> None:
    """Render the clip to `path`."""
    frames = Renderer(SIZE).clips(batch_of([demo_scene()]))[0].permute(0, 2, 3, 1).contiguous().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        write_mp4(Path(folder), frames, FPS).replace(path)


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "priv/demo/input.mp4"))
