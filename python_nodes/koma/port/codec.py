"""Messages ⇄ MessagePack maps, checked field by field against the dataclasses of
:mod:`koma.port.messages`."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import msgpack

from koma.errors import KomaError
from koma.port.limits import MAX_DEPTH, MAX_FRAME, MAX_STRING
from koma.port.messages import GATEWAY_TYPES, NODE_TYPES, GatewayMessage, NodeMessage

MAX_SHOWN = 80
"""Characters of an offending value that an error repeats."""


def encode(message: GatewayMessage | NodeMessage) -> bytes:
    """Return ``message`` as one MessagePack map.

    Raises KomaError ``too_large`` where the map exceeds ``MAX_FRAME``.
    """
    data = cast(bytes, msgpack.packb(as_map(message), unicode_errors="replace"))
    if len(data) > MAX_FRAME:
        raise KomaError(
            "too_large",
            f"a {type(message).__name__.lower()} message of {len(data)} bytes",
            field="frame",
            value=len(data),
            bound=MAX_FRAME,
        )
    return data


def decode_gateway(data: bytes) -> GatewayMessage:
    """Read a message of the gateway; raises KomaError ``protocol_error`` naming type and field."""
    return cast(GatewayMessage, _decode(data, GATEWAY_TYPES))


def decode_node(data: bytes) -> NodeMessage:
    """Read a message of a model node; raises KomaError ``protocol_error`` naming type and field."""
    return cast(NodeMessage, _decode(data, NODE_TYPES))


def as_map(message: Any) -> dict[str, Any]:
    """Return the map that travels for a message: its ``type`` and its fields, as plain MessagePack values."""
    return {"type": type(message).__name__.lower(), **_plain_fields(message)}


def unpack(data: bytes) -> Any:
    """Read one MessagePack value within the limits of the wire; raises KomaError ``protocol_error``."""
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=_unique,
            max_str_len=MAX_STRING,
            max_bin_len=MAX_FRAME,
            ext_hook=_no_extension,
            timestamp=0,
        )
    except KomaError:
        raise
    except (ValueError, TypeError, UnicodeDecodeError, msgpack.UnpackException) as error:
        raise _violation(f"not one MessagePack value: {type(error).__name__}: {error}") from error
    _check_depth(value, MAX_DEPTH)
    return value


def _decode(data: bytes, known: Mapping[str, type]) -> Any:
    value = unpack(data)
    if not isinstance(value, dict):
        raise _violation(f"a frame must hold a map, not {_shown(value)}")
    name = value.get("type")
    if not isinstance(name, str) or name not in known:
        raise _violation(
            f"unknown type {_shown(name)}; known: {', '.join(sorted(known))}", field="type", value=name
        )
    return _read_dataclass(known[name], value, name)


def _violation(message: str, field: str | None = None, value: Any = None) -> KomaError:
    return KomaError("protocol_error", message, field=field, value=None if value is None else _shown(value))


def _shown(value: Any) -> str:
    text = f"{value!r}"
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _unique(pairs: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if not isinstance(key, str):
            raise _violation(f"a key must be a string, not {_shown(key)}", value=key)
        if key in result:
            raise _violation(f"the key {_shown(key)} stands twice in one map", field=key)
        result[key] = value
    return result


def _no_extension(code: int, _data: bytes) -> Any:
    raise _violation(f"extension type {code} has no meaning here", value=code)


def _check_depth(value: Any, left: int) -> None:
    if not isinstance(value, dict | list):
        return
    if left == 0:
        raise _violation(f"nested deeper than {MAX_DEPTH}")
    for item in value.values() if isinstance(value, dict) else value:
        _check_depth(item, left - 1)


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _read_dataclass(cls: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(where, "a map", value)
    hints = _hints(cls)
    missing = next((name for name in hints if name not in value), None)
    if missing is not None:
        raise _violation(f"{where}: the field {missing} is missing", field=f"{where}.{missing}")
    return cls(**{name: _read(hint, value[name], f"{where}.{name}") for name, hint in hints.items()})


def _read(hint: Any, value: Any, where: str) -> Any:
    """Check ``value`` against a type annotation and return it as that type."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Annotated:
        return _read_bounded(args[0], args[1], value, where)
    if origin is Literal:
        if value not in args:
            raise _wrong(where, f"one of {', '.join(args)}", value)
        return value
    if origin in (Union, types.UnionType):
        return None if value is None else _read(args[0], value, where)
    if origin is tuple:
        return _read_tuple(args[0], value, where)
    if origin is not None:
        return _read_map(args[1], value, where)
    reader = _read_dataclass if is_dataclass(hint) else _read_scalar
    return reader(hint, value, where)


def _read_bounded(hint: type, bound: int | str, value: Any, where: str) -> Any:
    value = _read_scalar(hint, value, where)
    if isinstance(bound, int) and value < bound:
        raise _wrong(where, f"at least {bound}", value)
    if isinstance(bound, str) and not re.fullmatch(bound, value):
        raise _wrong(where, f"text matching {bound}", value)
    return value


def _read_scalar(hint: type, value: Any, where: str) -> Any:
    if hint is float and type(value) is int:
        return value
    if type(value) is not hint:
        raise _wrong(where, hint.__name__, value)
    return value


def _read_tuple(hint: Any, value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _wrong(where, "a list", value)
    return tuple(_read(hint, item, f"{where}[{index}]") for index, item in enumerate(value))


def _read_map(hint: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, "a map", value)
    return {key: _read(hint, item, f"{where}.{key}") for key, item in value.items()}


def _wrong(where: str, expected: str, value: Any) -> KomaError:
    return _violation(f"{where} must be {expected}, not {_shown(value)}", field=where, value=value)


def _plain_fields(message: Any) -> dict[str, Any]:
    return {field.name: _plain(getattr(message, field.name)) for field in fields(message)}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return _plain_fields(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return _portable(value)


def _portable(value: Any) -> Any:
    """Keep what both sides can hold: the BEAM has no NaN or infinity, MessagePack no integer over 64 bits."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str | bytes) else _shown(value)
