"""The toy as a family of Koma."""

from __future__ import annotations

from koma.models.family import Family
from koma.models.toy.runner import load

FAMILY = Family(name="toy", load=load, default="toy")
