"""Lets PyPI's torchvision be imported beside a torch of another build.

PyPI's torchvision wheel carries a C++ extension for CUDA; beside a CPU torch it cannot load, and then every
import of diffusers and transformers fails with "operator torchvision::nms does not exist". Declaring the
two operators that torchvision registers fake kernels for is enough: transforms need no C++ operator.
"""

from __future__ import annotations

import sys

import torch

_declared: list[torch.library.Library] = []


def make_torchvision_importable() -> None:
    """Call before the first import of transformers or diffusers; does nothing where torchvision works or is
    absent."""
    try:
        import torchvision
    except ImportError:
        return
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        if not _declared:
            library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _declared.append(library)
        import torchvision  # noqa: F401
