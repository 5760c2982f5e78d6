"""Teaches SmolVLM2's vision encoder directly, while the text model cannot yet."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from koma.training.world.catalogue import OBJECTS
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
    """Two linear layers on the patches of a frame: which object a patch shows, and where the objects are."""

    weights: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.objects = nn.Linear(width, len(OBJECTS) + 1)
        self.places = nn.Linear(width, 3 * MAX_OBJECTS)
        weights = torch.ones(len(OBJECTS) + 1)
        weights[NOTHING] = NOTHING_WEIGHT
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, patches: Tensor, scenes: SceneBatch, times: Tensor) -> Tensor:
        """Return the loss on patches `[B, T, P, width]` of the scenes at `times` `[T]`.

        Every patch names what it shows; the mean patch tells centres and sizes.
        """
        start, end = (torch.from_numpy(path)[:, None] for path in (scenes.start, scenes.end))
        path = on_device(torch.lerp(start, end, times[:, None, None]), patches.device)
        kinds = on_device(scenes.kind, patches.device)
        shown = patch_kinds(path, kinds, round(patches.shape[2] ** 0.5))
        scores = self.objects(patches).float().flatten(0, 2)
        named = functional.cross_entropy(scores, shown.flatten(), self.weights, ignore_index=NOT_ASKED)
        return named + PLACES_WEIGHT * functional.mse_loss(
            self.places(patches.mean(2)).float(), path.flatten(2)
        )


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
