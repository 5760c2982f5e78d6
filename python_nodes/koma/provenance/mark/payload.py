"""What a mark says: the version of the mark, the id of what was marked, and a check of both."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from koma.provenance.mark.code import Bits

VERSION_BITS, ID_BITS, CHECK_BITS = 4, 40, 8
BITS = VERSION_BITS + ID_BITS + CHECK_BITS
VERSION = 1
ID_DIGITS = ID_BITS // 4


@dataclass(frozen=True)
class Payload:
    """The version of the mark and the id, 10 hexadecimal digits."""

    version: int
    id: str
    sound: bool = True
    """Whether the check fits. Of a mark that is badly worn some bits may be read wrongly."""

    def bits(self) -> Bits:
        """Return the payload as bits, the highest first."""
        number = (self.version << ID_BITS | int(self.id, 16)) << CHECK_BITS
        number |= _check(self.version, self.id)
        return np.array([number >> place & 1 for place in range(BITS - 1, -1, -1)], np.uint8)

    @classmethod
    def of_bits(cls, bits: Bits) -> Payload:
        """Return the payload of ``bits``."""
        number = int("".join(map(str, bits.tolist())), 2)
        check, number = number & (1 << CHECK_BITS) - 1, number >> CHECK_BITS
        version, id = number >> ID_BITS, f"{number & (1 << ID_BITS) - 1:0{ID_DIGITS}x}"
        return cls(version, id, check == _check(version, id))


def _check(version: int, id: str) -> int:
    return hashlib.sha256(f"{version}/{id}".encode()).digest()[0]
