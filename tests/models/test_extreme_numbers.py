"""Numbers at the ends of what a double can hold are refused with their bound, or computed with."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from koma.errors import KomaError
from koma.models.amused.params import image_params
from koma.models.ltx_video.params import video_params
from koma.models.manifest import Manifest
from koma.models.parameters import Parameters
from koma.models.smolvlm2.params import understand_params
from koma.models.smolvlm2.step import draw
from koma.runtime.parameters import check, schema

FAMILIES: dict[str, type[Parameters]] = {
    "amused": image_params(64, 8, Manifest()),
    "ltx_video": video_params(32, 8, Manifest()),
    "smolvlm2": understand_params(16, 1.0, 1024, Manifest()),
}
SIZES = (5e-324, 1e-320, 1e-300, 1e-45, 1e-38, 1e-7, 1e38, 1e300, 1e308)
EXTREMES = [
    *(sign * size for size in SIZES for sign in (1, -1)),
    *(-0.0, 0.0, 1.0 + 2**-52, math.nextafter(0.01, 0), math.nextafter(0.001, 0)),
    *(2**31, 2**63, 2**64, 10**300, -(10**300), 10**309),
]  # fmt: skip
REFUSED = {"out_of_bounds", "wrong_type", "invalid_value"}


def _numbers(family: str) -> list[str]:
    """The parameters of a family that take any kind of number."""
    fields = schema(FAMILIES[family])["properties"]
    return [name for name, field in fields.items() if '"number"' in json.dumps(field) or _whole(field)]


def _whole(field: Any) -> bool:
    return '"integer"' in json.dumps(field)


def _given(family: str, name: str, value: float) -> Any:
    prompt = {"prompt": "x"} if family != "smolvlm2" else {}
    return check(FAMILIES[family], {**prompt, name: value})


def _outcome(family: str, name: str, value: float) -> float | KomaError:
    try:
        return float(getattr(_given(family, name, value), name))
    except KomaError as error:
        return error


@pytest.mark.parametrize("family", FAMILIES)
@given(value=st.sampled_from(EXTREMES) | st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=60, deadline=None)
def test_every_number_is_refused_with_a_code_or_within_its_bounds(family: str, value: float) -> None:
    for name in _numbers(family):
        outcome = _outcome(family, name, value)
        if isinstance(outcome, KomaError):
            assert outcome.code in REFUSED, (name, value)
            assert outcome.field == name
            assert len(json.dumps(outcome.as_dict())) < 600
        else:
            assert math.isfinite(outcome)
            assert abs(outcome) < 2**53


@pytest.mark.parametrize(
    ("name", "value", "bound"),
    [
        ("temperature", 1e-38, 0.01),
        ("temperature", 5e-324, 0.01),
        ("top_p", 1e-300, 0.001),
        ("fps", 1e-300, 0.001),
    ],
)
def test_a_number_so_small_that_the_model_would_fail_on_it_is_told_its_bound(
    name: str, value: float, bound: float
) -> None:
    with pytest.raises(KomaError) as error:
        _given("smolvlm2", name, value)
    assert (error.value.code, error.value.field, error.value.bound) == ("out_of_bounds", name, bound)


@given(
    temperature=st.floats(0.01, 5),
    top_p=st.floats(0.001, 1),
    scale=st.floats(0, 3e4),
    seed=st.integers(0, 2**32),
)
@example(temperature=0.01, top_p=0.001, scale=3e4, seed=0)
@example(temperature=0.01, top_p=1.0, scale=3e4, seed=0)
@settings(max_examples=80, deadline=None)
def test_whatever_is_within_the_bounds_draws_a_token(
    temperature: float, top_p: float, scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(500, generator=generator) * scale
    assert 0 <= draw(logits, temperature, top_p, generator) < 500
