"""Writes the golden pairs of ``test/golden``, which the suites of both languages read.

``python -m koma.testing.golden [FOLDER]`` writes for every message of ``docs/wire.md`` ``<type>.msgpack`` and
``<type>.json`` (bytes as ``{"$bin": base64}``); further shapes of some messages into ``variants/``;
and into ``invalid/`` frames that a receiver must refuse, each beside a JSON file that says why.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any, cast

import msgpack

from koma.port import messages as m
from koma.port.codec import as_map, encode
from koma.port.limits import MAX_DEPTH, PROTOCOL_VERSION

GOLDEN = Path(__file__).parents[3] / "test" / "golden"
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def nested(levels: int) -> Any:
    """Return a string below ``levels`` lists."""
    return [nested(levels - 1)] if levels else "bottom"


_PARAMS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["prompt"],
    "properties": {
        "prompt": {"type": "string", "minLength": 1, "maxLength": 2000, "description": "What to paint."},
        "steps": {
            "type": "integer",
            "minimum": 1,
            "maximum": 50,
            "default": 12,
            "description": "Forward passes.",
        },
        "seed": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}], "default": None},
        "guidance_scale": {"type": "number", "exclusiveMinimum": 0.0, "default": 10.0},
    },
}

SAMPLES: dict[str, m.GatewayMessage | m.NodeMessage] = {
    "hello": m.Hello(PROTOCOL_VERSION, "amused-1"),
    "load": m.Load("load-1", "amused", "emoji", "auto", "auto", 4, {"threads": 1, "preview": {"every": 2}}),
    "unload": m.Unload("unload-1"),
    "submit": m.Submit(
        "01HZX3",
        1,
        "video.generate",
        {"prompt": "a café under cherry trees 🌸", "steps": 12, "guidance_scale": 3.5, "seed": None},
        {"image": m.InputRef("/data/artifacts/9f/86", DIGEST, "image/png", 20480)},
        "/data/work/01HZX3-1",
        True,
    ),
    "cancel": m.Cancel("01HZX3"),
    "count": m.Count("count-7", "image.generate", {"prompt": "a café"}),
    "drain": m.Drain(),
    "ping": m.Ping(7),
    "ready": m.Ready(
        "load-1",
        PROTOCOL_VERSION,
        4242,
        ("amused", "ltx_video", "smolvlm2", "toy"),
        "amused",
        "emoji",
        DIGEST,
        {
            "image.generate": m.TaskInfo(
                _PARAMS,
                {"mask": m.InputInfo(("image/png", "image/jpeg"), False, "What to keep.")},
                {"image": "image/png"},
            )
        },
        "cuda:0",
        "bfloat16",
        4,
        734003200,
        "The weights are untrained.",
    ),
    "accepted": m.Accepted("01HZX3", 1, 12, 1500),
    "progress": m.Progress("01HZX3", "step", 3, 12, 1125),
    "counted": m.Counted("count-7", {"prompt": {"tokens": 4, "read": 4, "unknown": 0, "limit": 32}}),
    "preview": m.Preview("01HZX3", 3, "image/webp", bytes(range(256)), 64, 48),
    "token": m.Token("01HZX3", 0, "A café "),
    "done": m.Done(
        "01HZX3",
        (
            m.OutputRef(
                "video",
                "video/mp4",
                "/data/work/01HZX3-1/video.mp4",
                DIGEST,
                70000,
                None,
                {"frames": 17, "fps": 8.0},
            ),
            m.OutputRef("text", "text/plain", None, DIGEST, 4, "test", {}),
        ),
        4294967296,
        {"wait_ms": 0.25, "prepare_ms": 12.5, "steps_ms": 1480.0, "finish_ms": 31.75, "forwards": 12},
    ),
    "failed": m.Failed(
        "01HZX3", "job", "out_of_bounds", "steps must be at most 50, not 51", "steps", 51, {"maximum": 50}
    ),
    "log": m.Log("warning", "the batch cap was halved", {"key": "(16, 16)", "cap": 2}),
    "stats": m.Stats(3, 1, 4, 1000, 2500, 3, 120.5, 734003200, 0),
    "pong": m.Pong(7, 250),
}

VARIANTS: dict[str, m.GatewayMessage | m.NodeMessage] = {
    "ready_empty": m.Ready(
        None, PROTOCOL_VERSION, 1, ("toy",), None, None, None, {}, "cpu", "float32", 0, 1, None
    ),
    "submit_empty": m.Submit("j", 2, "toy.run", {}, {}, "/tmp/out", False),
    "failed_node": m.Failed("load-1", "node", "load_failed", "no checkpoint named nothing"),
    "failed_batch": m.Failed("j", "batch", "out_of_memory", "run it apart"),
    "done_empty": m.Done("j", (), 0, {}),
    "preview_empty": m.Preview("j", 0, "image/png", b"", 0, 0),
    "stats_widths": m.Stats(127, 128, 255, 256, 65535, 65536, 0.0, 4294967295, 4294967296),
    "log_values": m.Log(
        "info",
        "",
        {
            "list": [None, True, False, -1, -32, -33, -128, -129, -32769, -2147483649, 2**64 - 1, -(2**63)],
            "float": 0.1,
            "nested": {"a": {"b": [[]]}},
            "long": "ä" * 200,
        },
    ),
    "log_deepest": m.Log("debug", "as deep as is allowed", {"deep": nested(MAX_DEPTH - 2)}),
    "progress_first": m.Progress(
        "j",
        "step",
        0,
        12,
        0,
        {
            "prompt": {
                "tokens": 41,
                "read": 32,
                "unknown": 0,
                "limit": 32,
                "notice": "The prompt has 41 tokens; the model reads the first 32.",
            }
        },
    ),
    "token_long": m.Token("j", 65536, "x" * 70000),
}


def invalid() -> dict[str, tuple[bytes, str]]:
    """Return name -> (frame body, reason): what a node must refuse as ``protocol_error``."""
    submit = as_map(SAMPLES["submit"])
    packed = {
        "not_a_map": ([1, 2], "a list"),
        "no_type": ({"id": "x"}, "no type"),
        "unknown_type": ({"type": "teleport"}, "an unknown type"),
        "type_not_text": ({"type": 1}, "a type that is not text"),
        "missing_field": ({"type": "cancel"}, "id is missing"),
        "wrong_type": ({"type": "ping", "seq": "1"}, "seq is text"),
        "bool_for_int": ({"type": "ping", "seq": True}, "seq is a boolean"),
        "bytes_for_text": ({"type": "cancel", "id": b"x"}, "id is bytes"),
        "attempt_zero": (submit | {"attempt": 0}, "attempt is less than 1"),
        "bad_input": (submit | {"inputs": {"image": {"path": "/x"}}}, "an input lacks fields"),
        "key_not_text": ({"type": "ping", "seq": 1, 5: 1}, "a key is an integer"),
        "too_deep": (submit | {"params": {"deep": nested(MAX_DEPTH - 1)}}, f"nested deeper than {MAX_DEPTH}"),
        "extension": ({"type": "ping", "seq": 1, "x": msgpack.ExtType(5, b"y")}, "an extension type"),
    }
    ping = encode(SAMPLES["ping"])
    raw = {
        "empty": (b"", "an empty frame"),
        "truncated": (ping[:-1], "ends within a value"),
        "trailing": (ping + b"\x01", "bytes after the map"),
        "garbage": (b"\xc1\xff\x00koma", "not MessagePack"),
        "bad_utf8": (b"\x82\xa4type\xa6cancel\xa2id\xa2\xff\xfe", "id is not UTF-8"),
        "duplicate_key": (b"\x83\xa4type\xa4ping\xa3seq\x01\xa3seq\x02", "a key stands twice"),
    }
    return {name: (cast(bytes, msgpack.packb(value)), why) for name, (value, why) in packed.items()} | raw


def as_json(message: m.GatewayMessage | m.NodeMessage) -> str:
    """Return the JSON twin of a message, bytes as ``{"$bin": base64}``."""
    return json.dumps(_bin(as_map(message)), ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def _bin(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$bin": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {key: _bin(item) for key, item in value.items()}
    return [_bin(item) for item in value] if isinstance(value, list) else value


def files() -> dict[str, bytes]:
    """Return relative path -> content of every golden file."""
    result = {}
    groups = [("", SAMPLES), ("variants/", VARIANTS)]
    for folder, samples in groups:
        for name, message in samples.items():
            result[f"{folder}{name}.msgpack"] = encode(message)
            result[f"{folder}{name}.json"] = as_json(message).encode()
    for name, (body, reason) in invalid().items():
        result[f"invalid/{name}.msgpack"] = body
        result[f"invalid/{name}.json"] = (json.dumps({"reason": reason}) + "\n").encode()
    return result


def write(folder: Path = GOLDEN) -> None:
    """Write every golden file below ``folder``."""
    for name, content in files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN)
