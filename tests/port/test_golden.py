"""Every message exists as dataclass, golden pair and row of docs/wire.md, and the three agree."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from koma.errors import KomaError
from koma.port import limits
from koma.port.codec import decode_gateway, decode_node, encode
from koma.port.messages import GATEWAY_TYPES, NODE_TYPES
from koma.testing import golden

DOCS = (Path(__file__).parents[2] / "docs" / "wire.md").read_text()
DIRECTIONS = {"Gateway → node": GATEWAY_TYPES, "Node → gateway": NODE_TYPES}


def rows(heading: str) -> dict[str, str]:
    """Rows of the message table below a heading: type -> the column of fields."""
    section = DOCS.split(f"## {heading}")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE))


def named_fields(column: str) -> list[str]:
    """The names in a column of fields; what stands in braces or parentheses describes their inner shape."""
    flat = re.sub(r"\([^()]*\)", "", re.sub(r"`\{.*\}`", "", column))
    return re.findall(r"`(\w+)`", flat)


@pytest.mark.parametrize("heading", DIRECTIONS)
def test_every_message_has_a_row_in_the_docs_and_every_row_a_message(heading: str) -> None:
    assert set(rows(heading)) == set(DIRECTIONS[heading])


@pytest.mark.parametrize(("heading", "name"), [(h, n) for h, types in DIRECTIONS.items() for n in types])
def test_the_docs_name_the_fields_of_a_message(heading: str, name: str) -> None:
    declared = [field.name for field in fields(DIRECTIONS[heading][name])]
    assert named_fields(rows(heading)[name]) == declared


def test_the_docs_name_the_limits_and_the_version() -> None:
    table = dict(re.findall(r"^\| `(MAX_\w+)` \| (.+?) \|", DOCS, re.MULTILINE))
    units = {"": 1, " MiB": 1024**2}
    documented = {name: int(v.split()[0]) * units[v.removeprefix(v.split()[0])] for name, v in table.items()}
    assert documented == {name: getattr(limits, name) for name in documented}
    assert set(documented) >= {"MAX_FRAME", "MAX_DEPTH", "MAX_STRING", "MAX_OUTPUTS"}
    assert f"Protocol version: **{limits.PROTOCOL_VERSION}**" in DOCS


def test_every_message_has_exactly_one_golden_pair() -> None:
    kinds = {*GATEWAY_TYPES, *NODE_TYPES}
    assert {type(sample).__name__.lower(): name for name, sample in golden.SAMPLES.items()} == {
        kind: kind for kind in kinds
    }
    assert {path.stem for path in golden.GOLDEN.glob("*.msgpack")} == kinds


def test_the_golden_files_are_what_the_code_writes() -> None:
    stored = {
        str(path.relative_to(golden.GOLDEN)): path.read_bytes()
        for path in golden.GOLDEN.rglob("*")
        if path.is_file()
    }
    assert stored == golden.files(), "run python -m koma.testing.golden"


@pytest.mark.parametrize("name", [*golden.SAMPLES, *golden.VARIANTS])
def test_a_golden_frame_decodes_to_its_sample_and_its_json_twin(name: str) -> None:
    folder = golden.GOLDEN if name in golden.SAMPLES else golden.GOLDEN / "variants"
    sample = (golden.SAMPLES | golden.VARIANTS)[name]
    decode = decode_gateway if type(sample).__name__.lower() in GATEWAY_TYPES else decode_node
    message = decode((folder / f"{name}.msgpack").read_bytes())
    assert message == sample
    assert encode(message) == encode(sample)
    assert json.loads(golden.as_json(message)) == json.loads((folder / f"{name}.json").read_text())


@pytest.mark.parametrize("name", golden.invalid())
def test_an_invalid_golden_frame_is_refused_as_a_violation_of_the_protocol(name: str) -> None:
    with pytest.raises(KomaError) as error:
        decode_gateway((golden.GOLDEN / "invalid" / f"{name}.msgpack").read_bytes())
    assert error.value.code == "protocol_error"
