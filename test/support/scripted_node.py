"""A model node that misbehaves on purpose: the gateway's tests start it in place of ``koma.port``.

The argument says how. It speaks the wire by hand (fd 3 in, fd 4 out), so that it can break it.
"""

import os
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

import msgpack

Write = Callable[[bytes], None]
Message = dict[str, Any]

TASKS = {
    "toy.run": {
        "params": {"type": "object", "properties": {}},
        "inputs": {},
        "outputs": {"result": "text/plain"},
    }
}


def read() -> Message:
    """Return the next message of the gateway; end with it."""
    head = b""
    while len(head) < 4:
        part = os.read(3, 4 - len(head))
        if not part:
            sys.exit(0)
        head += part
    (size,) = struct.unpack(">I", head)
    body = b""
    while len(body) < size:
        body += os.read(3, size - len(body))
    return msgpack.unpackb(body)


def raw(data: bytes) -> None:
    """Write bytes as they are."""
    while data:
        data = data[os.write(4, data) :]


def frame(message: Message) -> bytes:
    """Return a message as a frame."""
    body = msgpack.packb(message)
    return struct.pack(">I", len(body)) + body


def ready(id: int | None = None, family: str | None = None, protocol: int = 1) -> Message:
    """Return a ready message."""
    return {
        "type": "ready",
        "id": id,
        "protocol": protocol,
        "pid": os.getpid(),
        "families": ["toy"],
        "family": family,
        "checkpoint": "toy",
        "checkpoint_digest": "d",
        "tasks": TASKS if family else {},
        "device": "cpu",
        "dtype": "float32",
        "slots": 2,
        "memory_bytes": 1,
        "notice": None,
    }


def shake_hands(write: Write = raw) -> None:
    """Answer hello and load."""
    assert read()["type"] == "hello"
    write(frame(ready()))
    load = read()
    write(frame(ready(load["id"], "toy")))


def dribble(data: bytes) -> None:
    """Write one byte at a time."""
    for byte in data:
        raw(bytes([byte]))


def answer(message: Message, write: Write = raw) -> None:
    """Run a job at once; answer pings."""
    if message["type"] == "ping":
        write(frame({"type": "pong", "seq": message["seq"], "busy_ms": 0}))
    if message["type"] == "submit":
        id = message["id"]
        output: Message = {
            "name": "result",
            "media_type": "text/plain",
            "path": None,
            "text": "ok",
            "meta": {},
        }
        accepted = {"type": "accepted", "id": id, "attempt": message["attempt"], "total": 1, "estimate_ms": 1}
        done = {"type": "done", "id": id, "outputs": [output], "seed": 1, "timings": {}}
        write(frame(accepted) + frame(done))


def serve(write: Write = raw, break_with: bytes | None = None) -> None:
    """Serve; on the first submit of this process write ``break_with`` in place of an answer."""
    while True:
        message = read()
        if message["type"] == "submit" and break_with is not None:
            raw(break_with)
            time.sleep(60)
        answer(message, write)


BREAKS = {
    "garbage": b"\x00\x00\x00\x05\xc1\xc1\xc1\xc1\xc1",
    "oversize": b"\x7f\xff\xff\xff",
    "not_a_map": b"\x00\x00\x00\x01\x07",
    "unknown_type": frame({"type": "sing"}),
    "wrong_type": frame({"type": "pong", "seq": "one", "busy_ms": 0}),
}

behaviour = sys.argv[1]
if behaviour in BREAKS:
    shake_hands()
    serve(break_with=BREAKS[behaviour])
elif behaviour == "truncated":
    shake_hands()
    while (message := read())["type"] != "submit":
        answer(message)
    raw(b"\x00\x00\x01\x00half")
elif behaviour == "dribble":
    shake_hands(dribble)
    serve(dribble)
elif behaviour == "mismatch":
    read()
    raw(frame(ready(protocol=99)))
    time.sleep(60)
elif behaviour == "silent":
    time.sleep(600)
elif behaviour == "silent_load":
    read()
    raw(frame(ready()))
    time.sleep(600)
elif behaviour == "slow_load":
    # Answers pings meanwhile.
    read()
    raw(frame(ready()))
    load = read()
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        answer(read())
    raw(frame(ready(load["id"], "toy")))
    serve()
elif behaviour == "load_failed":
    read()
    raw(frame(ready()))
    load = read()
    raw(
        frame(
            {
                "type": "failed",
                "id": load["id"],
                "scope": "node",
                "code": "load_failed",
                "message": "no such file",
            }
        )
    )
    time.sleep(60)
elif behaviour == "deaf":
    # Ready, but reads nothing any more.
    shake_hands()
    time.sleep(600)
elif behaviour == "slow_reader":
    # Looks at nothing for a while after it became ready.
    shake_hands()
    time.sleep(3.0)
    serve()
elif behaviour == "chatty":
    shake_hands()
    for line in range(20000):
        print("line", line)
    serve()
elif behaviour == "hostile":
    # Whatever it says may be taken for something else in a log.
    forged = "text\r\nFORGED [error] all is lost\x1b[2J\u2028\u202eFORGED"
    shake_hands()
    os.write(2, forged.encode() + b"\xff\n")
    fields = {"job": forged, "traceback": "Traceback:\n" + forged}
    raw(frame({"type": "log", "level": "warning", "message": forged, "fields": fields}))
    while (message := read())["type"] != "submit":
        answer(message)
    failure = {"type": "failed", "scope": "node", "code": "load_failed", "message": forged}
    raw(frame(failure | {"id": None}))
    time.sleep(60)
elif behaviour == "forks":
    # A child in the same process group that ignores the end of its parent's input.
    shake_hands()
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    with open(sys.argv[2], "w") as file:
        file.write(str(child))
    serve()
else:
    raise SystemExit(f"unknown behaviour {behaviour}")
