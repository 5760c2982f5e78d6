"""A family that is no part of Koma: installed by pip, served, queued, run by the command line."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import wave
from pathlib import Path

import httpx
import pytest
from tests.end_to_end.command import ROOT, koma
from tests.end_to_end.server import running_server

SAMPLE = ROOT / "examples/koma-family-tone"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A throw-away environment that has what this one has, and the sample package by pip."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin/python"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (packages / "koma-environment.pth").write_text(sysconfig.get_path("purelib") + "\n")
    source = tmp_path_factory.mktemp("source") / "tone"
    subprocess.run(["cp", "-r", str(SAMPLE), str(source)], check=True)
    subprocess.run(
        [str(python), "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation",
         "--disable-pip-version-check", str(source)],
        check=True,
    )  # fmt: skip
    return python


def test_a_family_that_pip_installed_is_served_queued_by_its_work_and_run_by_the_command(
    python: Path, tmp_path: Path
) -> None:
    environment = {"KOMA_PYTHON": str(python), "KOMA_MODELS": "tone:1"}
    with running_server(tmp_path / "server", environment) as server:
        [model] = httpx.get(f"{server.url}/v1/models").json()["data"]
        assert (model["family"], list(model["tasks"])) == ("tone", ["audio.generate"])
        assert model["tasks"]["audio.generate"]["params"]["properties"]["tenths"]["x-work"] is True
        done = koma(server, "run", "audio.generate", "pitch=330", "tenths=5", "--out", "a.wav", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "a.wav\n"
        with wave.open(str(tmp_path / "a.wav")) as tone:
            assert (tone.getnframes(), tone.getframerate()) == (8_000, 16_000)
        refused = koma(server, "run", "audio.generate", "pitch=3", cwd=tmp_path)
        assert refused.returncode != 0
        assert "pitch" in refused.stderr
        [job] = httpx.get(f"{server.url}/v1/jobs").json()
        [output] = job["outputs"]
        stored = httpx.get(f"{server.url}{output['url']}")
        assert stored.headers["content-type"] == "audio/wav"
        assert stored.content == (tmp_path / "a.wav").read_bytes()


def test_the_sample_family_keeps_the_contract_of_runners(python: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from koma.models import registry;"
        "from koma.testing.conformance import check_runner;"
        "runner = registry.load('tone', 'default', 'auto', 'auto', 2, {});"
        "params = [{'pitch': 100}, {'tenths': 3}];"
        "check_runner(runner, params, task='audio.generate', folder=Path(sys.argv[1]))"
    )
    environment = {"PYTHONPATH": str(ROOT / "python_nodes")}
    subprocess.run([str(python), "-c", code, str(tmp_path)], check=True, env=environment)


def test_a_task_that_is_no_assignment_or_input_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "koma.cli.main", "run", "toy.run"]
    environment = {"PYTHONPATH": str(ROOT / "python_nodes"), "NO_COLOR": "1", "PATH": "/usr/bin:/bin"}
    for wrong, said in ((["steps"], "NAME=VALUE"), (["--input", "file"], "NAME=FILE")):
        done = subprocess.run([*command, *wrong], capture_output=True, text=True, env=environment)
        assert done.returncode == 2
        assert said in done.stderr
