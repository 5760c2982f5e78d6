"""`koma serve` and `koma demo`: servers that the command starts and stops."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.end_to_end.command import environment

PATIENCE = 60.0  # seconds
TEXT = {"content-type": "text/plain"}


def eventually(true: Callable[[], bool]) -> None:
    """Wait until ``true`` holds."""
    give_up = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < give_up, "it did not come true"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def serving(folder: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run `koma serve` with a toy model node until it listens; its port is in ``folder``."""
    arguments = ["serve", "--port", "0", "--data", str(folder / "data"), "--models", "toy"]
    process = subprocess.Popen(
        [sys.executable, "-m", "koma.cli.main", *arguments],
        env=environment(KOMA_PORT_FILE=str(folder / "port"), **variables), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        eventually((folder / "port").exists)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_runs_the_server_until_a_signal_and_leaves_no_process(
    tmp_path: Path, number: signal.Signals
) -> None:
    with serving(tmp_path) as process:
        url = f"http://127.0.0.1:{(tmp_path / 'port').read_text()}"
        assert httpx.get(f"{url}/health/live").status_code == 200
        children = children_of(process.pid)
        process.send_signal(number)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
        assert children
        assert not any(alive(pid) for pid in children)


# Runs in the server's BEAM: once the file is there, kills the core as often as it is started again.
KILLER = """
-module(koma_test_killer).
-export([start/0]).
start() ->
    {ok, [[File]]} = init:get_argument(koma_test_killer),
    spawn(fun() -> wait(File) end).
wait(File) ->
    case filelib:is_file(File) of
        true -> kill();
        false -> timer:sleep(20), wait(File)
    end.
kill() ->
    case whereis('Elixir.Koma.Core') of
        undefined -> ok;
        Core -> exit(Core, kill)
    end,
    timer:sleep(5),
    kill().
"""


def killer(folder: Path) -> tuple[dict[str, str], Path]:
    """Return an environment in which a server gives up, and the file whose being there lets it do so."""
    (folder / "koma_test_killer.erl").write_text(KILLER)
    subprocess.run(["erlc", "koma_test_killer.erl"], cwd=folder, check=True)
    file = folder / "give-up"
    return {"ERL_FLAGS": f"-pa {folder} -s koma_test_killer -koma_test_killer {file}"}, file


def test_a_server_that_has_given_up_ends_and_says_so_by_its_exit_status(tmp_path: Path) -> None:
    variables, give_up = killer(tmp_path)
    with serving(tmp_path, **variables) as process:
        give_up.touch()
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, output
    assert "Koma gives up" in output


def test_a_server_ends_when_the_command_that_runs_it_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path) as process:
        (server,) = children_of(process.pid)
        process.kill()
        eventually(lambda: not alive(server))


def test_serve_on_a_port_that_is_taken_fails_and_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "koma.cli.main", "serve", "--port", port, "--models", "toy"]
        done = subprocess.run(
            [*command, "--data", str(tmp_path / "data")],
            env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
    assert done.returncode != 0
    assert port in done.stdout + done.stderr


def test_serve_on_a_port_that_is_taken_touches_nothing_in_its_data_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "work").mkdir(parents=True)
    (data / "work" / "kept").write_text("of the last run")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = refusal("serve", "--port", port, "--data", str(data), "--models", "toy")
    assert f"Port {port} of 127.0.0.1 is in use" in refused
    assert (data / "work" / "kept").exists()
    assert {path.name for path in data.iterdir()} == {"lock", "work"}


def test_a_second_serve_on_a_data_folder_is_refused_and_costs_the_first_one_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(tmp_path) as process:
        (server,) = children_of(process.pid)
        url = f"http://127.0.0.1:{(tmp_path / 'port').read_text()}"
        eventually(lambda: httpx.get(f"{url}/health/ready").status_code == 200)
        (data / "tmp" / "half").write_text("an upload")
        before = (data / "jobs" / "journal").stat().st_ino
        refused = refusal("serve", "--port", "0", "--data", str(data), "--models", "toy")
        assert f"The data folder {data} is in use by another Koma server (process {server})" in refused
        assert (data / "jobs" / "journal").stat().st_ino == before
        assert (data / "tmp" / "half").exists()
        long = {"task": "toy.run", "params": {"steps": 10_000, "step_ms": 20}, "on_disconnect": "keep"}
        jobs = [httpx.post(f"{url}/v1/jobs", json=long).json()["id"] for _ in range(5)]
        os.kill(server, signal.SIGKILL)
    (tmp_path / "port").unlink()
    # At once, on the folder of a server that was killed a moment ago.
    with serving(tmp_path):
        url = f"http://127.0.0.1:{(tmp_path / 'port').read_text()}"
        assert {httpx.get(f"{url}/v1/jobs/{job}").status_code for job in jobs} == {200}


def test_check_data_tells_damage_repairs_it_and_leaves_the_folder_of_a_server_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(tmp_path):
        url = f"http://127.0.0.1:{(tmp_path / 'port').read_text()}"
        eventually(lambda: httpx.get(f"{url}/health/ready").status_code == 200)
        kept, damaged = (
            httpx.post(f"{url}/v1/artifacts", content=content, headers=TEXT).json()["id"]
            for content in (b"kept", b"damaged")
        )
        status, said = check_data(data, "--repair")
        assert (status, "is in use by another Koma server" in said) == (3, True), said
    eventually(lambda: check_data(data) == (0, "jobs: none\nall is sound\n"))
    (data / "artifacts" / damaged[:2] / damaged).write_bytes(b"other bytes")
    (data / "jobs" / "journal").write_bytes(bytes(8))
    status, said = check_data(data)
    assert status == 1
    assert f"artifact {damaged}: its bytes are not those of its name" in said
    assert "8 bytes of a torn record at the end" in said
    assert kept not in said
    status, said = check_data(data, "--repair")
    assert status == 0, said
    assert check_data(data) == (0, "jobs: none\nall is sound\n")
    assert not (data / "artifacts" / damaged[:2] / damaged).exists()
    assert check_data(tmp_path / "absent")[0] == 3


def check_data(folder: Path, *options: str) -> tuple[int, str]:
    """Run `koma check-data`; return its exit code and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "koma.cli.main", "check-data", str(folder), *options],
        env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_serve_where_no_data_folder_can_be_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = refusal("serve", "--port", "0", "--data", str(tmp_path / "file" / "data"), "--models", "toy")
    assert f"The data folder {tmp_path / 'file' / 'data'} cannot be used: not a directory." in refused


def refusal(*arguments: str) -> str:
    """Run a command that is to fail with one sentence and without a stack trace; return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "koma.cli.main", *arguments],
        env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "(stdlib" not in said
    return said


def test_the_demo_writes_its_three_files_says_where_and_stops_its_server(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "koma.cli.main", "demo", "--out", "story"],
        cwd=tmp_path, env=environment(), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["story/caption.txt", "story/image.png", "story/video.mp4"]
    for name in done.stdout.split():
        assert (tmp_path / name).stat().st_size > 0
    url = done.stderr.partition("server: ")[2].split()[0]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health/live")


SLOW_TO_LOAD = """
[%{name: "toy", family: "toy", checkpoint: "toy", count: 1, slots: 1, options: %{"load_ms" => 60_000}}]
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_demo_that_is_interrupted_while_it_starts_leaves_no_server(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    models = tmp_path / "models.exs"
    models.write_text(SLOW_TO_LOAD)
    process = subprocess.Popen(
        [sys.executable, "-m", "koma.cli.main", "demo", "--out", "story"],
        cwd=tmp_path, env=environment(KOMA_MODELS_FILE=str(models)), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        next(line for line in process.stderr if "waiting for" in line)
        servers = children_of(process.pid)
        process.send_signal(number)
        process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == code
    assert servers
    assert not any(alive(pid) for pid in servers)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"KOMA_QUEUE_LIMIT": "many"},
            'KOMA_QUEUE_LIMIT is "many"; it must be a whole number of at least 1.',
        ),
        ({"KOMA_LOG_LEVEL": "loud"}, 'KOMA_LOG_LEVEL is "loud"; it must be one of debug, info'),
        ({"KOMA_MODELS_FILE": "/absent.exs"}, "/absent.exs, the file with the model nodes, cannot be read."),
    ],
)
def test_a_wrong_setting_ends_the_start_with_one_sentence(
    tmp_path: Path, variables: dict[str, str], words: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "koma.cli.main", "serve", "--port", "0", "--data", str(tmp_path / "data")],
        env=environment(**variables), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(f"koma: {words}")
    assert len(done.stderr.splitlines()) == 1


def test_a_misspelt_variable_is_named_with_the_nearest_right_one(tmp_path: Path) -> None:
    with serving(tmp_path, KOMA_QUEUE_LIMITS="3") as process:
        process.terminate()
        output, _ = process.communicate(timeout=PATIENCE)
    assert "KOMA_QUEUE_LIMITS is set, and nothing reads it; did you mean KOMA_QUEUE_LIMIT?" in output
