"""The error correction of the invisible mark."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from koma.provenance.mark import code
from koma.provenance.mark.payload import BITS, Payload

IDS = st.integers(0, 2**40 - 1).map(lambda number: f"{number:010x}")


@given(IDS)
def test_a_payload_survives_the_way_to_bits_and_back(id: str) -> None:
    assert Payload.of_bits(Payload(1, id).bits()) == Payload(1, id)


@given(IDS, st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_a_tenth_of_the_coded_bits_may_be_wrong(id: str, seed: int) -> None:
    bits = Payload(1, id).bits()
    values = 2.0 * code.encode(bits) - 1.0
    assert len(values) == code.coded_length(BITS)
    wrong = np.random.default_rng(seed).choice(len(values) // 6, len(values) // 10, replace=False) * 6
    values[wrong[: len(wrong) // 2 * 2]] *= -1
    decoded, totals = code.decode(values[None])
    assert (decoded[0] == bits).all()
    assert totals[0] == values @ (2.0 * code.encode(bits) - 1.0)


def test_no_other_payload_fits_better_than_the_decoded_one() -> None:
    random = np.random.default_rng(7)
    values = random.normal(size=(20, code.coded_length(8)))
    every = np.array([[number >> place & 1 for place in range(8)] for number in range(256)], np.uint8)
    signs = np.stack([2.0 * code.encode(bits) - 1.0 for bits in every])
    _, totals = code.decode(values)
    np.testing.assert_allclose(totals, (values @ signs.T).max(axis=1))
