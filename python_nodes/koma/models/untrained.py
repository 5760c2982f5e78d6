"""Untrained small checkpoints of the real classes: every part of the serving path works, the results are
noise.

The sizes follow the trained ``emoji`` checkpoints roughly; weights are random from a fixed seed, so that
the same version of the libraries makes the same checkpoint.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import torch

from koma.errors import KomaError
from koma.models.family import Family
from koma.models.manifest import FILE

NOTICE = "untrained weights: the results are noise"
_VERSION = "1"
"""Part of the folder name; raise it when the recipe of a family changes."""
_SEED = 20240229


def folder(family: Family) -> Path:
    """Return the folder of the untrained checkpoint of ``family``, built on first use in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "koma" / "untrained"
    return build(family, cache / f"{family.name}-{_VERSION}")


def build(family: Family, target: Path) -> Path:
    """Build the untrained checkpoint of ``family`` at ``target`` unless it is there.

    It appears whole or not at all: several model nodes may build it at the same time.
    """
    if family.untrained is None:
        message = f"{family.name} has no untrained checkpoint"
        raise KomaError("load_failed", message, field="checkpoint", value="untrained")
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        draft = Path(work) / "checkpoint"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            defaults = family.untrained(draft)
        (draft / FILE).write_text(json.dumps({"notice": NOTICE, "defaults": defaults}, indent=2) + "\n")
        try:
            os.rename(draft, target)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)  # another process was faster
    return target
