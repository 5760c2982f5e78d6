"""Messages survive the way over the wire; anything else is refused with the type and the field named."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, get_type_hints

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koma.errors import KomaError
from koma.port import messages as m
from koma.port.codec import as_map, decode_gateway, decode_node, encode, unpack
from koma.port.limits import MAX_DEPTH, MAX_FRAME, MAX_STRING
from koma.testing.golden import SAMPLES, nested

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
natural = st.integers(0, 2**63 - 1)
positive = st.integers(1, 2**63 - 1)
digest = st.text("0123456789abcdef", min_size=64, max_size=64)
optional_text = st.none() | text
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
maps = st.dictionaries(text, plain, max_size=4)
texts = st.lists(text, max_size=3).map(tuple)
task_infos = st.builds(
    m.TaskInfo,
    maps,
    st.dictionaries(text, st.builds(m.InputInfo, texts, st.booleans(), text), max_size=2),
    st.dictionaries(text, text, max_size=2),
)
STRATEGIES: dict[Any, st.SearchStrategy[Any]] = {
    str: text,
    bytes: st.binary(max_size=200),
    bool: st.booleans(),
    float: st.floats(0, 1e12),
    m.Natural: natural,
    m.Positive: positive,
    m.Digest: digest,
    str | None: optional_text,
    Any: plain,
    m.Phase: st.sampled_from(("prepare", "step", "finish")),
    m.Scope: st.sampled_from(("job", "batch", "node")),
    m.Level: st.sampled_from(("debug", "info", "warning", "error")),
    tuple[str, ...]: texts,
    tuple[m.OutputRef, ...]: st.lists(
        st.builds(m.OutputRef, text, text, optional_text, digest, natural, optional_text, maps), max_size=3
    ).map(tuple),
}
FIELD_STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "params": maps, "options": maps, "meta": maps, "fields": maps,
    "inputs": st.dictionaries(text, st.builds(m.InputRef, text, digest, text, natural), max_size=2),
    "tasks": st.dictionaries(text, task_infos, max_size=2),
    "timings": st.dictionaries(text, st.floats(0, 1e9) | st.integers(0, 9), max_size=3),
}  # fmt: skip


def messages_of(cls: type) -> st.SearchStrategy[Any]:
    hints = get_type_hints(cls, include_extras=True)
    by_type = {field.name: STRATEGIES.get(hints[field.name], maps) for field in fields(cls)}
    named = {name: FIELD_STRATEGIES[name] for name in by_type if name in FIELD_STRATEGIES}
    return st.builds(cls, **(by_type | named))


gateway_messages = st.one_of(*map(messages_of, m.GATEWAY_TYPES.values()))
node_messages = st.one_of(*map(messages_of, m.NODE_TYPES.values()))


@given(gateway_messages)
def test_every_message_of_the_gateway_survives_the_wire(message: m.GatewayMessage) -> None:
    assert decode_gateway(encode(message)) == message


@given(node_messages)
def test_every_message_of_a_node_survives_the_wire(message: m.NodeMessage) -> None:
    assert decode_node(encode(message)) == message


@given(st.binary(max_size=100))
def test_garbage_is_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(KomaError) as error:
        decode_gateway(data)
    assert error.value.code == "protocol_error"


@given(gateway_messages, st.data())
def test_a_truncated_message_is_refused(message: m.GatewayMessage, data: st.DataObject) -> None:
    whole = encode(message)
    with pytest.raises(KomaError):
        decode_gateway(whole[: data.draw(st.integers(0, len(whole) - 1))])


@pytest.mark.parametrize(
    ("name", "field"), [(name, field.name) for name, cls in m.GATEWAY_TYPES.items() for field in fields(cls)]
)
def test_a_missing_and_an_ill_typed_field_are_named(name: str, field: str) -> None:
    whole = as_map(SAMPLES[name])
    without = {key: value for key, value in whole.items() if key != field}
    for broken, words in ((without, "missing"), (whole | {field: [object]}, "must be")):
        data = msgpack.packb(broken, default=lambda _value: None)
        with pytest.raises(KomaError, match=words) as error:
            decode_gateway(data)
        assert (error.value.code, error.value.field) == ("protocol_error", f"{name}.{field}")


def test_a_message_of_the_other_direction_is_an_unknown_type() -> None:
    with pytest.raises(KomaError, match="unknown type 'pong'; known: cancel, count, drain"):
        decode_gateway(encode(SAMPLES["pong"]))


def test_a_field_that_nobody_knows_is_ignored() -> None:
    assert decode_gateway(msgpack.packb({"type": "ping", "seq": 3, "colour": "red"})) == m.Ping(3)


def test_nesting_of_the_limit_passes_and_one_more_is_refused() -> None:
    assert unpack(msgpack.packb(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    with pytest.raises(KomaError, match=f"deeper than {MAX_DEPTH}"):
        unpack(msgpack.packb(nested(MAX_DEPTH + 1)))


def test_nesting_beyond_the_parsers_stack_is_refused_too() -> None:
    with pytest.raises(KomaError) as error:
        unpack(b"\x91" * 100_000 + b"\x00")
    assert error.value.code == "protocol_error"


def test_a_string_of_the_limit_passes_and_one_more_byte_is_refused() -> None:
    assert len(unpack(msgpack.packb("x" * MAX_STRING))) == MAX_STRING
    with pytest.raises(KomaError, match=str(MAX_STRING)):
        unpack(msgpack.packb("x" * (MAX_STRING + 1)))


def test_a_message_over_the_frame_limit_is_not_sent() -> None:
    with pytest.raises(KomaError) as error:
        encode(m.Preview("j", 0, "image/png", bytes(MAX_FRAME), 1, 1))
    assert (error.value.code, error.value.bound) == ("too_large", MAX_FRAME)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2**64, -(2**63) - 1, object, {1: {2: 3}}])
def test_what_the_other_side_cannot_hold_travels_as_text(value: Any) -> None:
    sent = decode_node(encode(m.Failed("j", "job", "internal", "m", None, value, None)))
    assert isinstance(sent, m.Failed)
    assert sent.value == ({"1": {"2": 3}} if isinstance(value, dict) else sent.value)
    assert isinstance(sent.value, str | dict)


def test_half_a_surrogate_pair_does_not_stop_a_message() -> None:
    sent = decode_node(encode(m.Token("j", 0, "a\ud83d")))
    assert sent == m.Token("j", 0, "a?")
