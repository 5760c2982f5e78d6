"""Bad parameters and inputs get an error that names field, value and bound; schemas are self-contained."""

from __future__ import annotations

import contextlib
import enum
import math
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from koma.errors import KomaError
from koma.models.parameters import Parameters, ZeroOr
from koma.models.toy.params import ToyParams
from koma.port.messages import InputRef, Submit
from koma.runtime import intake
from koma.runtime.parameters import check, schema
from koma.testing.scripted import TASK, ScriptedRunner

DIGEST = "0" * 64


class Sample(Parameters):
    """A parameter of every kind."""

    prompt: str = Field(min_length=1, max_length=10, description="p")
    steps: int = Field(4, ge=1, le=50, multiple_of=2, description="s")
    scale: float = Field(3.0, gt=0, lt=20, description="g")
    heat: Annotated[float, Field(ge=0, le=5), ZeroOr(0.01)] = Field(0.0, description="h")
    size: Literal[64, 128] = Field(64, description="z")
    mode: Literal["a"] = Field("a", description="m")
    loud: bool = Field(False, description="l")
    seed: int | None = Field(None, ge=0, description="d")


@pytest.mark.parametrize(
    ("values", "code", "field", "value", "bound"),
    [
        ({}, "missing_field", "prompt", None, None),
        ({"prompt": "x", "stepz": 1}, "unknown_field", "stepz", None, None),
        ({"prompt": 5}, "wrong_type", "prompt", 5, None),
        ({"prompt": None}, "wrong_type", "prompt", None, None),
        ({"prompt": b"x"}, "wrong_type", "prompt", "1 byte that is no text", None),
        ({"prompt": ""}, "out_of_bounds", "prompt", "", 1),
        ({"prompt": "x", "steps": 0}, "out_of_bounds", "steps", 0, 1),
        ({"prompt": "x", "steps": 52}, "out_of_bounds", "steps", 52, 50),
        ({"prompt": "x", "steps": 3}, "out_of_bounds", "steps", 3, 2),
        ({"prompt": "x", "steps": "4"}, "wrong_type", "steps", "4", None),
        ({"prompt": "x", "steps": True}, "wrong_type", "steps", True, None),
        ({"prompt": "x", "steps": 4.5}, "wrong_type", "steps", 4.5, None),
        ({"prompt": "x", "steps": 2**70}, "out_of_bounds", "steps", 2**70, 50),
        ({"prompt": "x", "scale": 0}, "out_of_bounds", "scale", 0, 0),
        ({"prompt": "x", "scale": math.nan}, "out_of_bounds", "scale", "nan", None),
        ({"prompt": "x", "scale": math.inf}, "out_of_bounds", "scale", "inf", None),
        ({"prompt": "x", "steps": math.nan}, "out_of_bounds", "steps", "nan", None),
        ({"prompt": "x", "scale": [1]}, "wrong_type", "scale", "[1]", None),
        ({"prompt": "x", "scale": {"a": None}}, "wrong_type", "scale", '{"a": null}', None),
        ({"prompt": "x", "steps": 10**300}, "out_of_bounds", "steps", "a number of 301 digits", 50),
        ({"prompt": "x", "heat": 1e-38}, "out_of_bounds", "heat", 1e-38, 0.01),
        ({"prompt": "x", "size": 65}, "invalid_value", "size", 65, "64 or 128"),
        ({"prompt": "x", "loud": "yes"}, "wrong_type", "loud", "yes", None),
        ({"prompt": "x", "seed": -1}, "out_of_bounds", "seed", -1, 0),
        ({"prompt": "x", "seed": "7"}, "wrong_type", "seed", "7", None),
    ],
)
def test_a_bad_parameter_is_told_with_field_value_and_bound(
    values: dict[str, Any], code: str, field: str, value: Any, bound: Any
) -> None:
    with pytest.raises(KomaError) as error:
        check(Sample, values)
    found = error.value
    assert (found.code, found.field, found.value, found.bound) == (code, field, value, bound)
    assert field in found.message


def test_a_prompt_of_a_megabyte_is_out_of_bounds_and_is_not_repeated_whole() -> None:
    with pytest.raises(KomaError) as error:
        check(Sample, {"prompt": "x" * 1_000_000})
    assert (error.value.code, error.value.bound) == ("out_of_bounds", 10)
    assert len(error.value.value) < 200
    assert len(error.value.message) < 300


def test_an_unknown_parameter_suggests_the_nearest_one_or_lists_them() -> None:
    with pytest.raises(KomaError, match="did you mean steps"):
        check(Sample, {"step": 1})
    with pytest.raises(KomaError, match="known: heat, loud, mode"):
        check(Sample, {"qqqqqq": 1})


def test_good_parameters_keep_their_values_and_get_the_defaults() -> None:
    checked = check(Sample, {"prompt": "x", "scale": 5, "seed": None})
    assert checked.model_dump() == {
        "prompt": "x", "steps": 4, "scale": 5, "heat": 0.0, "size": 64, "mode": "a", "loud": False,
        "seed": None,
    }  # fmt: skip


def test_a_number_without_a_fraction_is_an_integer_as_in_json() -> None:
    checked = cast(Sample, check(Sample, {"prompt": "x", "steps": 6.0, "size": 128.0, "seed": 7.0}))
    assert [repr(value) for value in (checked.steps, checked.size, checked.seed)] == ["6", "128", "7"]
    assert repr(cast(Sample, check(Sample, {"prompt": "x", "scale": 2.0})).scale) == "2.0"
    with pytest.raises(KomaError, match="steps"):
        check(Sample, {"prompt": "x", "steps": 6.5})


@given(
    st.dictionaries(st.sampled_from([*ToyParams.model_fields, "other"]), st.from_type(object) | st.floats())
)
def test_whatever_comes_is_checked_parameters_or_a_told_error(values: dict[str, Any]) -> None:
    with contextlib.suppress(KomaError):
        assert isinstance(check(ToyParams, values), ToyParams)


def test_the_schema_holds_only_what_the_gateway_reads() -> None:
    told = schema(Sample)
    assert told["required"] == ["prompt"]
    assert told["additionalProperties"] is False
    fields = told["properties"]
    assert fields["prompt"] == {"type": "string", "minLength": 1, "maxLength": 10, "description": "p"}
    assert fields["scale"] == {
        "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 20, "default": 3.0, "description": "g",
    }  # fmt: skip
    assert fields["steps"]["multipleOf"] == 2
    assert (fields["size"]["enum"], fields["mode"]["enum"]) == ([64, 128], ["a"])
    assert fields["seed"]["anyOf"] == [{"type": "integer", "minimum": 0}, {"type": "null"}]


def test_a_referenced_definition_is_written_out() -> None:
    class Mood(enum.Enum):
        """A definition of its own."""

        CALM = "calm"

    class Inner(BaseModel):
        """Nested."""

        mood: Mood = Mood.CALM

    told = schema(Inner)
    assert "$ref" not in str(told)
    assert told["properties"]["mood"]["enum"] == ["calm"]


def test_a_keyword_that_the_gateway_does_not_know_is_refused_when_the_family_is_written() -> None:
    class Patterned(BaseModel):
        """Uses a keyword outside of the agreed ones."""

        name: str = Field("a", pattern="a+")

    with pytest.raises(TypeError, match=r"Patterned\.name: the schema keyword pattern"):
        schema(Patterned)


def submitted(task: str = TASK, inputs: dict[str, InputRef] | None = None, **params: Any) -> Submit:
    return Submit("j", 1, task, params, inputs or {}, "/tmp/out", False)


@pytest.mark.parametrize(
    ("message", "code", "field"),
    [
        (submitted(task="video.dream"), "unknown_task", "task"),
        (submitted(inputs={"imagge": InputRef("/x", DIGEST, "image/png", 1)}), "unknown_field", "imagge"),
        (
            submitted(inputs={"image": InputRef("/x", DIGEST, "video/mp4", 1)}),
            "unsupported_media",
            "inputs.image",
        ),
    ],
)
def test_a_bad_task_or_input_is_told(message: Submit, code: str, field: str) -> None:
    with pytest.raises(KomaError) as error:
        intake.read(message, ScriptedRunner().tasks)
    assert (error.value.code, error.value.field) == (code, field)


def test_a_required_input_that_is_absent_is_told() -> None:
    tasks = dict(ScriptedRunner().tasks)
    spec = tasks[TASK]
    inputs = {
        name: type(item)(item.media_types, item.description, required=True)
        for name, item in spec.inputs.items()
    }
    with pytest.raises(KomaError, match="the input image is required") as error:
        intake.read(submitted(), {TASK: type(spec)(spec.params, inputs, spec.outputs)})
    assert (error.value.code, error.value.field) == ("missing_field", "inputs.image")


def test_a_good_request_carries_its_inputs_and_its_attempt() -> None:
    message = Submit("j", 3, TASK, {}, {"image": InputRef("/x", DIGEST, "image/png", 9)}, "/tmp/out", False)
    request = intake.read(message, ScriptedRunner().tasks)
    assert (request.attempt, request.output_dir) == (3, Path("/tmp/out"))
    assert request.inputs["image"].path == Path("/x")
