"""Teaches SmolVLM2 directly what it sees, while the text model cannot yet speak of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from koma.training.world.catalogue import MOTIONS, OBJECTS
from koma.training.world.scene import MAX_OBJECTS, SceneBatch
from koma.training.world.transfer import on_device

PLACES_WEIGHT = 30.0
NOTHING = len(OBJECTS)
"""Class of a patch that shows the background."""
NOTHING_WEIGHT = 0.1
INSIDE, OUTSIDE = 0.4, 0.6
"""Distances from an object's centre, in its size: nearer is the object, farther is not."""
NOT_ASKED = -100
"""Class of a patch in between."""


class Guide(nn.Module):
    """Linear layers: which object a patch shows; from a frame's tokens, where its objects are; from what the
    text model makes of the tokens, which way they move; from what it makes of a yes/no question, the answer.

    What the text model is given must tell places plainly: a motion is the difference between two frames.
    """

    weights: Tensor

    def __init__(self, vision_width: int, width: int) -> None:
        super().__init__()
        self.objects = nn.Linear(vision_width, len(OBJECTS) + 1)
        self.places = nn.Linear(width, 3 * MAX_OBJECTS)
        self.motions = nn.Linear(width, len(MOTIONS))
        self.verdicts = nn.Linear(width, 2)
        weights = torch.ones(len(OBJECTS) + 1)
        weights[NOTHING] = NOTHING_WEIGHT
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, patches: Tensor, features: Tensor, scenes: SceneBatch, times: Tensor) -> Tensor:
        """Return the loss on the scenes at `times` `[T]`, seen in all frames one after the other.

        Every patch of `[B·T, P, vision_width]` names what it shows; the mean token of `[B·T, tokens, width]`
        tells centres and sizes.
        """
        start, end = (torch.from_numpy(path)[:, None] for path in (scenes.start, scenes.end))
        path = on_device(torch.lerp(start, end, times[:, None, None]), patches.device)
        kinds = on_device(scenes.kind, patches.device)
        shown = patch_kinds(path, kinds, round(patches.shape[1] ** 0.5))
        scores = self.objects(patches).float().flatten(0, 1)
        named = functional.cross_entropy(scores, shown.flatten(), self.weights, ignore_index=NOT_ASKED)
        places = self.places(features.mean(1)).float()
        return named + PLACES_WEIGHT * functional.mse_loss(places, path.flatten(0, 1).flatten(1))

    def motion_loss(self, read: Tensor, scenes: SceneBatch, frames: int) -> Tensor:
        """Return the loss on the text model's states `[B, frames·tokens, width]` at the tokens of a clip.

        Every token but those of the first frame, before which there is nothing, names the motion.
        """
        later = read[:, read.shape[1] // frames :]
        motion = on_device(scenes.motion, read.device)[:, None].expand(-1, later.shape[1])
        return functional.cross_entropy(self.motions(later).float().flatten(0, 1), motion.flatten())

    def verdict_loss(self, read: Tensor, verdicts: Tensor) -> Tensor:
        """Return the loss on the text model's states `[B, L, width]` at yes/no questions and their answers.

        Every token names the answer, as well as it can: `verdicts` int64 `[B, L]` is 1 for yes, 0 for no,
        `NOT_ASKED` elsewhere. The answer alone, some tokens behind the asked word, teaches the comparison of
        words with what is seen far more slowly.
        """
        scores = self.verdicts(read).float().flatten(0, 1)
        return functional.cross_entropy(scores, verdicts.flatten(), ignore_index=NOT_ASKED)


def patch_kinds(path: Tensor, kinds: Tensor, grid: int) -> Tensor:
    """Return the classes int64 `[B, T, grid²]` of patches, row by row; `NOT_ASKED` where objects end.

    `path` `[B, T, 2, 3]` has centres and sizes of the objects, `kinds` `[B, 2]` their classes.
    """
    axis = (torch.arange(grid, device=path.device) + 0.5) / grid
    y, x = (coordinate.flatten() for coordinate in torch.meshgrid(axis, axis, indexing="ij"))
    centre = torch.stack([x, y], 1)
    size = path[..., None, 2].clamp(min=1e-6)
    distance = (centre - path[..., None, :2]).abs().amax(-1) / size
    shown = torch.where((distance < OUTSIDE).any(2), NOT_ASKED, NOTHING)
    for index in range(MAX_OBJECTS):
        shown = torch.where(distance[:, :, index] < INSIDE, kinds[:, index, None, None], shown)
    return shown
