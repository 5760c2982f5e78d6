"""The guide of SmolVLM2's eyes asks of every patch what it really shows."""

from __future__ import annotations

import torch

from koma.training.guide import NOT_ASKED, NOTHING, Guide, patch_kinds
from koma.training.world.catalogue import MOTIONS
from koma.training.world.scene import sample_batch


def test_patches_inside_an_object_have_its_class_and_those_at_its_edge_are_not_asked() -> None:
    path = torch.tensor([[[[0.25, 0.75, 0.5], [0.0, 0.0, 0.0]]]])
    shown = patch_kinds(path, torch.tensor([[7, 0]]), 16).view(16, 16)
    assert (shown[9:15, 1:7] == 7).all()
    assert (shown[:7] == NOTHING).all()
    assert (shown[:, 9:] == NOTHING).all()
    assert (shown[8, 1:7] == NOT_ASKED).all()
    assert (shown[9:15, 7] == NOT_ASKED).all()


def test_two_objects_each_have_their_patches() -> None:
    path = torch.tensor([[[[0.2, 0.5, 0.3], [0.7, 0.5, 0.3]]]])
    shown = patch_kinds(path, torch.tensor([[3, 4]]), 16).view(16, 16)
    assert shown[8, [3, 11, 5, 7]].tolist() == [3, 4, NOT_ASKED, NOTHING]


def test_the_loss_is_small_where_the_patches_tell_all() -> None:
    scenes = sample_batch(4, 1)
    times = torch.tensor([0.0, 1.0])
    guide = Guide(NOTHING + 1, 6)
    start, end = (torch.from_numpy(p)[:, None] for p in (scenes.start, scenes.end))
    path = torch.lerp(start, end, times[:, None, None])
    shown = patch_kinds(path, torch.from_numpy(scenes.kind), 8)
    told = torch.nn.functional.one_hot(shown.clamp(min=0), NOTHING + 1).float()
    patches, features = told.flatten(0, 1), path.flatten(0, 1).flatten(1)[:, None].expand(-1, 4, -1)
    with torch.no_grad():
        for layer in (guide.objects, guide.places):
            layer.weight.zero_()
            layer.bias.zero_()
        guide.objects.weight.copy_(20 * torch.eye(NOTHING + 1))
        guide.places.weight.copy_(torch.eye(6))
    assert guide(patches, features, scenes, times) < 1e-3
    assert guide(patches.roll(2, 0), features, scenes, times) > 1
    assert guide(patches, features.roll(2, 0), scenes, times) > 0.1


def test_the_motion_is_asked_of_every_frame_but_the_first() -> None:
    scenes = sample_batch(5, 2)
    guide = Guide(8, len(MOTIONS))
    with torch.no_grad():
        guide.motions.weight.copy_(20 * torch.eye(len(MOTIONS)))
        guide.motions.bias.zero_()
    read = torch.nn.functional.one_hot(torch.from_numpy(scenes.motion), len(MOTIONS)).float()
    read = read[:, None].repeat(1, 12, 1)
    read[:, :4] = 0
    assert guide.motion_loss(read, scenes, 3) < 1e-3
    assert guide.motion_loss(read, scenes, 6) > 0.1
