"""Emoji World and the five training runs of the small checkpoints."""

from koma.models.torchvision_shim import make_torchvision_importable

make_torchvision_importable()
