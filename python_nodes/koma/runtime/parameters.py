"""Parameters of a task: one pydantic model declares them; here they become JSON Schema and checked values."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from koma.errors import KomaError

MAX_SHOWN = 80
"""Characters of an offending value that an error repeats."""
MAX_DIGITS = 30
"""A number of more digits says nothing that its length does not."""

_KEPT = (
    "type",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "enum",
    "default",
    "description",
    "anyOf",
    "not",
    "properties",
    "required",
    "additionalProperties",
)

_BOUNDS = ("ge", "gt", "le", "lt", "max_length", "min_length", "multiple_of", "expected")


def schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of ``model``, self-contained and of few keywords, as the gateway checks it too.

    ``x-order`` keeps the order in which forms show the parameters: the gateway's maps have none.
    Raises TypeError where the model needs a keyword that the gateway does not know.
    """
    full = model.model_json_schema()
    reduced = _reduce(full, full.get("$defs", {}), model.__name__)
    order = {"x-order": list(reduced.get("properties", {}))}
    return {"type": "object", "properties": {}, **reduced, **order, "additionalProperties": False}


def _reduce(node: Mapping[str, Any], definitions: Mapping[str, Any], where: str) -> dict[str, Any]:
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[-1]]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    if "const" in node:
        node = {**node, "enum": [node["const"]]}
    foreign = sorted(
        key for key in node if key not in (*_KEPT, "title", "$defs", "const") and not key.startswith("x-")
    )
    if foreign:
        raise TypeError(f"{where}: the schema keyword {foreign[0]} is unknown to the gateway")
    result = {key: value for key, value in node.items() if key in _KEPT or key.startswith("x-")}
    if "anyOf" in result:
        result["anyOf"] = [_reduce(item, definitions, where) for item in result["anyOf"]]
    if "properties" in result:
        fields = result["properties"].items()
        result["properties"] = {name: _reduce(item, definitions, f"{where}.{name}") for name, item in fields}
    return result


def check(model: type[BaseModel], values: Mapping[str, Any]) -> BaseModel:
    """Return ``values`` as ``model``.

    Raises KomaError ``unknown_field``, ``missing_field``, ``wrong_type``, ``out_of_bounds`` or
    ``invalid_value`` that names the field, its value and the bound.
    """
    for name in values:
        if name not in model.model_fields:
            raise unknown(name, "parameter", model.model_fields)
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise KomaError("out_of_bounds", f"{name} must be a finite number", field=name, value=str(value))
    whole = {name: _whole(value, model.model_fields[name].annotation) for name, value in values.items()}
    try:
        return model.model_validate(whole, strict=True)
    except ValidationError as error:
        raise _translate(error) from None


def unknown(name: str, kind: str, known: Mapping[str, Any]) -> KomaError:
    """Return the error for a name that is not among ``known``, with the nearest one as a suggestion."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
    if not known:
        hint = "none is taken here"
    return KomaError("unknown_field", f"no {kind} named {shown(name)}; {hint}", field=shown(name))


def shown(value: Any) -> Any:
    """Return ``value`` as an error may repeat it: what is long is cut, lists and maps become JSON text."""
    if isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
        return f"a number of {len(str(abs(value)))} digits"
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else _text(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}… ({len(text)} characters)"


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return "1 byte that is no text" if len(value) == 1 else f"{len(value)} bytes that are no text"
    try:
        return json.dumps(value, ensure_ascii=False, default=shown)
    except (TypeError, ValueError, RecursionError):
        return "something that is no JSON"


def _whole(value: Any, annotation: Any) -> Any:
    """Return 3.0 as 3 where an integer is wanted: JSON has one kind of number; the gateway lets it pass."""
    kinds = {annotation, *get_args(annotation), *map(type, get_args(annotation))}
    takes = int in kinds and float not in kinds
    return int(value) if takes and isinstance(value, float) and value.is_integer() else value


def _translate(error: ValidationError) -> KomaError:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "params"
    kind, context = first["type"], first.get("ctx", {})
    bound = next((context[name] for name in _BOUNDS if name in context), None)
    code = _code(kind, context)
    if code in ("missing_field", "unknown_field"):
        return KomaError(code, f"{field}: {first['msg'].lower()}", field=field)
    return KomaError(code, f"{field}: {first['msg']}", field=field, value=shown(first["input"]), bound=bound)


def _code(kind: str, context: Mapping[str, Any]) -> str:
    if kind == "missing":
        return "missing_field"
    if kind == "extra_forbidden":
        return "unknown_field"
    if kind == "finite_number" or any(name in context for name in _BOUNDS if name != "expected"):
        return "out_of_bounds"
    if kind.endswith(("_type", "_parsing", "_from_float")):
        return "wrong_type"
    return "invalid_value"
