"""The real process, ``python -m koma.port``, spoken to over real descriptors."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from koma.port.codec import encode
from koma.port.frames import frame
from koma.port.limits import MAX_FRAME, PROTOCOL_VERSION
from koma.port.messages import (
    Accepted,
    Cancel,
    Done,
    Drain,
    Failed,
    Hello,
    Load,
    Log,
    Ping,
    Pong,
    Preview,
    Progress,
    Ready,
    Stats,
    Submit,
    Token,
    Unload,
)
from koma.testing.golden import GOLDEN, invalid
from koma.testing.node_process import PACKAGES, NodeProcess, submit

LONG: dict[str, Any] = {"steps": 10_000, "step_ms": 10}


@pytest.fixture
def node() -> Iterator[NodeProcess]:
    with NodeProcess() as process:
        yield process


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_alive(pid)


def test_importing_the_port_does_not_import_torch() -> None:
    code = "import koma.port.__main__, koma.models.toy.runner, sys; print('torch' in sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": PACKAGES},
        capture_output=True,
        check=True,
    )
    assert out.stdout.strip() == b"False"


def test_a_node_greets_loads_runs_a_job_and_drains(node: NodeProcess, tmp_path: Path) -> None:
    ready = node.load("toy", slots=3)
    first = node.heard[0]
    assert isinstance(first, Ready)
    assert (first.id, first.family, first.protocol, first.slots) == (None, None, PROTOCOL_VERSION, 0)
    assert first.families == ("amused", "ltx_video", "smolvlm2", "toy")
    assert (ready.id, ready.family, ready.checkpoint, ready.slots) == ("load-1", "toy", "untrained", 3)
    assert ready.pid == node.process.pid
    assert ready.tasks["toy.run"].params["properties"]["steps"]["maximum"] == 10_000
    node.send(
        submit("j", tmp_path, previews=True, steps=3, step_ms=50, tokens=True, preview_bytes=100, seed=5)
    )
    done = node.wait_for(Done)
    told = json.loads(done.outputs[0].text or "")
    assert (done.id, done.seed, told["seed"], told["steps"]) == ("j", 5, 5, 3)
    assert "".join(m.text for m in node.messages_of("j") if isinstance(m, Token)) == told["text"]
    assert [len(m.data) for m in node.messages_of("j") if isinstance(m, Preview)][:1] == [100]
    node.send(Drain())
    assert node.wait_for_end() == 0


def test_the_process_carries_the_name_of_its_family(node: NodeProcess) -> None:
    node.load("toy")
    assert Path(f"/proc/{node.process.pid}/comm").read_text().strip() == "koma:toy"


def test_ping_is_answered_while_a_step_runs_with_how_long_it_has_been_running(
    node: NodeProcess, tmp_path: Path
) -> None:
    node.load()
    node.send(Ping(1))
    assert node.wait_for(Pong) == Pong(1, 0)
    node.send(submit("hung", tmp_path, fail="hang"))
    node.wait_for(Progress, lambda m: m.phase == "step")
    busy = 0
    while busy < 100:
        node.send(Ping(2))
        busy = node.wait_for(Pong).busy_ms


def test_a_step_that_holds_the_interpreter_silences_the_node_until_it_is_killed(tmp_path: Path) -> None:
    with NodeProcess() as node:
        node.load()
        node.send(submit("hung", tmp_path, fail="hang_gil"))
        node.wait_for(Accepted)
        node.ping_until_silent(1.0)


def test_jobs_of_a_node_share_forwards_and_join_in_flight(node: NodeProcess, tmp_path: Path) -> None:
    node.load("toy", slots=3)
    node.send(submit("a", tmp_path, steps=12, step_ms=50))
    for job_id, steps, arrival in (("b", 8, 3), ("c", 5, 5)):
        node.wait_for(Progress, lambda m, step=arrival: (m.id, m.step) == ("a", step))  # type: ignore[misc]
        node.send(submit(job_id, tmp_path, steps=steps, step_ms=50))
    for _ in range(3):
        node.wait_for(Done)
    node.send(submit("last", tmp_path, steps=200, step_ms=10))
    stats = node.wait_for(Stats, lambda m: m.rows >= 25)
    assert 12 <= stats.forwards - (stats.rows - 25) <= 13


def test_cancel_is_answered_within_a_step_and_the_others_go_on(node: NodeProcess, tmp_path: Path) -> None:
    node.load()
    node.send(submit("goes", tmp_path, **LONG))
    node.send(submit("stays", tmp_path, steps=20, step_ms=10))
    node.wait_for(Progress, lambda m: (m.id, m.phase) == ("goes", "step"))
    node.send(Cancel("goes"))
    node.send(Cancel("never seen"))
    assert node.wait_for(Failed) == Failed("goes", "job", "cancelled", "the job was cancelled")
    assert node.wait_for(Done).id == "stays"


def test_what_libraries_print_does_not_disturb_the_wire(tmp_path: Path) -> None:
    with tempfile.TemporaryFile() as out, NodeProcess(stdout=out, stderr=out) as node:
        node.load()
        node.send(submit("j", tmp_path, fail="print"))
        node.wait_for(Done)
        out.seek(0)
        printed = out.read()
    assert b"this is not a frame" in printed
    assert bytes(range(256)) in printed


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("prepare", "model_failed"),
        ("step", "model_failed"),
        ("preview", "model_failed"),
        ("finish", "model_failed"),
        ("oom", "out_of_memory"),
    ],
)
def test_a_fault_of_one_job_leaves_the_others_and_the_node_alone(
    node: NodeProcess, tmp_path: Path, fault: str, code: str
) -> None:
    node.load()
    node.send(submit("good", tmp_path, steps=5, step_ms=1))
    node.send(submit("bad", tmp_path, previews=True, preview_bytes=1, steps=5, step_ms=1, fail=fault))
    ends: dict[str, Done | Failed] = {}
    while len(ends) < 2:
        end = node.wait_for(Done | Failed)  # type: ignore[arg-type]
        ends[end.id] = end
    assert isinstance(ends["good"], Done)
    assert isinstance(ends["bad"], Failed)
    assert (ends["bad"].code, ends["bad"].scope) == (code, "job")
    node.send(submit("bad", tmp_path, attempt=2, steps=2, fail=fault, fail_attempts=1))
    assert node.wait_for(Done).id == "bad"


def test_an_unexpected_error_is_logged_with_its_traceback_and_its_job(
    node: NodeProcess, tmp_path: Path
) -> None:
    node.load()
    node.send(submit("bad", tmp_path, fail="step"))
    log = node.wait_for(Log, lambda m: m.level == "error")
    assert (log.fields["job"], log.fields["logger"]) == ("bad", "koma.runtime.engine")
    assert "RuntimeError: the toy was told to fail in step 0" in str(log.fields["traceback"])


@pytest.mark.parametrize(("fault", "status"), [("crash", -signal.SIGKILL), ("exit", 3)])
def test_a_job_that_kills_the_process_ends_the_output_and_not_with_a_lie(
    node: NodeProcess, tmp_path: Path, fault: str, status: int
) -> None:
    node.load()
    node.send(submit("bad", tmp_path, fail=fault))
    assert node.wait_for_end() == status
    assert not [m for m in node.messages_of("bad") if isinstance(m, Done | Failed)]


def test_a_job_before_a_checkpoint_is_unavailable(node: NodeProcess, tmp_path: Path) -> None:
    node.send(Hello(PROTOCOL_VERSION, "n"))
    node.send(submit("j", tmp_path))
    assert node.wait_for(Failed).code == "unavailable"


def test_bad_parameters_are_answered_and_the_node_lives(node: NodeProcess, tmp_path: Path) -> None:
    node.load()
    node.send(submit("j", tmp_path, steps=10_001))
    failure = node.wait_for(Failed)
    assert (failure.code, failure.field, failure.value, failure.bound) == (
        "out_of_bounds",
        "steps",
        10_001,
        10_000,
    )
    node.send(submit("j", tmp_path, task="video.dream"))
    assert node.wait_for(Failed).code == "unknown_task"
    node.send(submit("j", tmp_path))
    node.wait_for(Done)


@pytest.mark.parametrize("family", ["stable", "toy"])
def test_a_checkpoint_that_cannot_be_loaded_breaks_the_node(node: NodeProcess, family: str) -> None:
    node.send(Hello(PROTOCOL_VERSION, "n"))
    node.send(Load("load-1", family, "x", "auto", "auto", 1, {"fail_load": True}))
    failure = node.wait_for(Failed)
    assert (failure.id, failure.scope, failure.code) == ("load-1", "node", "load_failed")
    assert node.wait_for_end() == 70


def test_pings_are_answered_while_a_checkpoint_loads_and_a_drain_meanwhile_is_obeyed(
    node: NodeProcess,
) -> None:
    node.send(Hello(PROTOCOL_VERSION, "n"))
    node.send(Load("load-1", "toy", "x", "auto", "auto", 1, {"load_ms": 500}))
    node.send(Ping(1))
    assert node.wait_for(Pong) == Pong(1, 0)
    node.send(Drain())
    assert node.wait_for_end() == 0


def test_a_checkpoint_can_be_dropped_and_another_loaded(node: NodeProcess, tmp_path: Path) -> None:
    node.load()
    node.send(submit("j", tmp_path, steps=20, step_ms=5))
    node.wait_for(Accepted)
    node.send(Unload("unload-1"))
    node.wait_for(Done)
    assert node.wait_for(Ready).family is None
    node.send(Load("load-2", "toy", "other", "auto", "auto", 2, {}))
    ready = node.wait_for(Ready)
    assert (ready.id, ready.checkpoint, ready.slots) == ("load-2", "other", 2)
    node.send(Load("load-3", "toy", "third", "auto", "auto", 2, {}))
    assert node.wait_for(Ready).id == "load-3"


def test_draining_finishes_what_runs_refuses_the_rest_and_exits_zero(
    node: NodeProcess, tmp_path: Path
) -> None:
    node.load()
    node.send(submit("runs", tmp_path, steps=30, step_ms=10))
    node.wait_for(Progress, lambda m: m.phase == "step")
    node.send(Drain())
    node.send(submit("late", tmp_path))
    assert node.wait_for(Failed).code == "draining"
    assert node.wait_for(Done).id == "runs"
    assert node.wait_for_end() == 0


def test_sigterm_drains_and_sigint_is_ignored(node: NodeProcess, tmp_path: Path) -> None:
    node.load()
    node.send(submit("runs", tmp_path, steps=30, step_ms=10))
    node.wait_for(Progress, lambda m: m.phase == "step")
    node.process.send_signal(signal.SIGINT)
    node.process.send_signal(signal.SIGTERM)
    assert node.wait_for(Done).id == "runs"
    assert node.wait_for_end() == 0


def test_sigterm_before_a_checkpoint_is_loaded_ends_the_node(node: NodeProcess) -> None:
    node.send(Hello(PROTOCOL_VERSION, "n"))
    node.wait_for(Ready)
    node.process.send_signal(signal.SIGTERM)
    assert node.wait_for_end() == 0


@pytest.mark.parametrize("params", [LONG, {"fail": "hang"}, {"fail": "slow_prepare", **LONG}], ids=str)
def test_a_node_whose_gateway_is_gone_exits_within_moments(
    node: NodeProcess, tmp_path: Path, params: dict[str, object]
) -> None:
    node.load()
    node.send(Submit("j", 1, "toy.run", params, {}, str(tmp_path / "j"), False))
    node.wait_for(Progress)
    started = time.monotonic()
    node.close()
    assert node.process.wait(10) == 0
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("fault", ["none", "hang_gil"])
def test_no_node_outlives_a_parent_that_was_killed_even_where_its_pipes_stay_open(
    tmp_path: Path, fault: str
) -> None:
    script = f"""
        from pathlib import Path
        from koma.port.messages import Progress
        from koma.testing.node_process import NodeProcess, submit
        node = NodeProcess()
        node.load()
        node.send(submit("j", Path({str(tmp_path)!r}), steps=10_000, step_ms=10, fail={fault!r}))
        if {fault!r} == "none":
            node.wait_for(Progress, lambda m: m.phase == "step")
        else:
            node.ping_until_silent(1.0)
        import os
        for fd in (node._read_fd, node._write_fd):
            os.set_inheritable(fd, True)
        holder = os.posix_spawn("/bin/sleep", ["sleep", "60"], os.environ)  # keeps the pipes open
        print(node.process.pid, holder, flush=True)
        input()
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], env=os.environ | {"PYTHONPATH": PACKAGES},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert parent.stdout is not None
    pid, holder = map(int, parent.stdout.readline().split())
    try:
        assert is_alive(pid)
        parent.kill()
        assert parent.wait(10) == -signal.SIGKILL
        assert wait_until_gone(pid)
        assert is_alive(holder)
    finally:
        os.kill(holder, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        parent.communicate()


@pytest.mark.parametrize("name", [*invalid(), "over_the_limit", "no_hello", "hello_twice"])
def test_a_violation_of_the_protocol_is_logged_in_one_line_and_ends_the_node_with_65(
    node: NodeProcess, name: str
) -> None:
    hello = frame(encode(Hello(PROTOCOL_VERSION, "n")))
    special = {
        "over_the_limit": hello + (MAX_FRAME + 1).to_bytes(4, "big"),
        "no_hello": frame(encode(Ping(1))),
        "hello_twice": hello + hello,
    }
    stored = GOLDEN / "invalid" / f"{name}.msgpack"
    node.send_bytes(special[name] if name in special else hello + frame(stored.read_bytes()))
    assert node.wait_for_end() == 65
    (log,) = [message for message in node.heard if isinstance(message, Log)]
    assert log.level == "error"
    assert log.message.startswith("the gateway broke the protocol: ")
    assert "\n" not in log.message


def test_another_version_of_the_protocol_is_told_and_ends_the_node(node: NodeProcess) -> None:
    node.send(Hello(PROTOCOL_VERSION + 1, "n"))
    failure = node.wait_for(Failed)
    assert (failure.scope, failure.code, failure.bound) == ("node", "protocol_mismatch", PROTOCOL_VERSION)
    assert node.wait_for_end() == 65


def test_a_frame_of_the_limit_is_read_and_frames_may_come_byte_by_byte(node: NodeProcess) -> None:
    node.load()
    for byte in frame(encode(Ping(1))):
        node.send_bytes(bytes([byte]))
    assert node.wait_for(Pong).seq == 1
    body = encode(Cancel("x" * 1000))
    node.send_bytes((frame(body) + frame(encode(Ping(2)))) * 3)
    assert [node.wait_for(Pong).seq for _ in range(3)] == [2, 2, 2]


def test_started_by_hand_it_says_how_it_is_started() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "koma.port"], env=os.environ | {"PYTHONPATH": PACKAGES}, capture_output=True
    )
    assert out.returncode == 64
    assert b"started by the gateway" in out.stderr
