"""Fits a family's parameter declaration to the checkpoint that is loaded: defaults, bounds, allowed sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    create_model,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function

from koma.errors import KomaError
from koma.models.manifest import Manifest

MAX_PROMPT = 4_000
"""Characters of a prompt: far more than any of the text encoders reads (77 to 8,192 tokens)."""
MAX_SEED = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly."""
ADVANCED: dict[str, Any] = {"x-advanced": True}
"""Extra of a parameter's schema: forms fold it away, as most people never change it."""


WORK: dict[str, Any] = {"x-work": True}
"""Extra of a parameter's schema: the time that a job takes grows with this number."""


def labelled(label: str) -> dict[str, Any]:
    """Extra of a parameter's schema: what forms call it, where its name alone says too little."""
    return {"x-label": label}


class Parameters(BaseModel):
    """Base of all parameter declarations: unknown fields and non-finite numbers are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


@dataclass(frozen=True)
class ZeroOr:
    """Bound of a number that turns something off with 0 and is computed with otherwise: 0, or at least
    ``least``. In the schema it is a ``not`` of what lies between. Goes last into ``Annotated``."""

    least: float

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core), "not": {"exclusiveMinimum": 0, "exclusiveMaximum": self.least}}

    def _check(self, value: float) -> float:
        if 0 < value < self.least:
            raise PydanticCustomError(
                "zero_or_at_least", "Input should be 0 or at least {ge}", {"ge": self.least}
            )
        return value


@dataclass(frozen=True)
class Range:
    """What a checkpoint says of one number: its default and which values it can do."""

    default: Any
    minimum: float | None = None
    maximum: float | None = None
    multiple_of: int | None = None
    choices: Sequence[int] = field(default=())


def fit(base: type[Parameters], ranges: Mapping[str, Range], manifest: Manifest) -> type[Parameters]:
    """Return ``base`` with the ranges of the checkpoint and the defaults and maxima of its manifest.

    Raises:
        KomaError: ``load_failed`` for a manifest that names no parameter or a default outside its bounds.
    """
    _check_names(base, manifest)
    merged = {
        name: _merged(ranges.get(name), base.model_fields[name], name, manifest) for name in base.model_fields
    }
    changed: dict[str, Any] = {name: made for name, made in merged.items() if made is not None}
    model = create_model(base.__name__, __base__=base, __doc__=base.__doc__, **changed)
    try:
        defaults = {name: info.default for name, info in model.model_fields.items() if not info.is_required()}
        model.model_validate({"prompt": "x"} | {k: v for k, v in defaults.items() if v is not None})
    except ValidationError as error:
        raise KomaError("load_failed", f"defaults of the checkpoint: {error}", field="defaults") from error
    return model


def _check_names(base: type[Parameters], manifest: Manifest) -> None:
    for name in [*manifest.defaults, *manifest.maxima]:
        if name not in base.model_fields:
            raise KomaError(
                "load_failed", f"the checkpoint's manifest names no parameter: {name!r}", field=name
            )


def _merged(given: Range | None, info: FieldInfo, name: str, manifest: Manifest) -> tuple[Any, Any] | None:
    """The new (annotation, field) of one parameter, or None where the base's declaration stands."""
    if given is None and name not in manifest.defaults and name not in manifest.maxima:
        return None
    bounds = _bounds(info) if given is None else _range_bounds(given)
    if name in manifest.maxima:
        bounds["le"] = manifest.maxima[name]
    default = manifest.defaults.get(name, info.default if given is None else given.default)
    annotation: Any = info.annotation
    if given is not None and given.choices:
        largest = bounds.get("le", max(given.choices))
        allowed = tuple(value for value in given.choices if value <= largest)
        annotation, bounds = Literal[allowed], {}
    for gap in (part for part in info.metadata if isinstance(part, ZeroOr)):
        annotation, bounds = Annotated[annotation, Field(**bounds), gap], {}
    extra = info.json_schema_extra
    return annotation, Field(default, description=info.description, json_schema_extra=extra, **bounds)


def _bounds(info: FieldInfo) -> dict[str, Any]:
    keys = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length")
    return {
        key: getattr(part, key)
        for part in info.metadata
        for key in keys
        if getattr(part, key, None) is not None
    }


def _range_bounds(given: Range) -> dict[str, Any]:
    named = {"ge": given.minimum, "le": given.maximum, "multiple_of": given.multiple_of}
    return {key: value for key, value in named.items() if value is not None}
