"""LiteLLM, LangChain, Hugging Face's client and OpenAI's client for JavaScript, each as a process."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.clients.conftest import Served
from tests.clients.test_openai_chat import ANSWERS, CLIP, media

ROOT = Path(__file__).parents[2]
PATIENCE = 120  # seconds
__all__ = ["media"]


def _asked(name: str, served: Served, media: dict[str, str]) -> dict[str, Any]:
    command = [str(ROOT / ".venv-clients/bin/python"), str(ROOT / "tests/clients/others.py"), name]
    settings = {"base_url": served.v1, "key": served.key, **media}
    environment = os.environ | {"HF_HUB_OFFLINE": "0", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(
        command, input=json.dumps(settings), env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize("name", ["litellm", "langchain", "huggingface"])
def test_a_client_understands_a_clip_and_a_picture_piece_by_piece(
    served: Served,
    media: dict[str, str],
    name: str,
) -> None:
    told = _asked(name, served, media)
    assert told["clip"] == ANSWERS["clip"]
    assert told["picture"] == ANSWERS["picture"]
    assert told["pieces"] > 1
    if name == "litellm":
        assert (told["images"], told["refused"]) == (2, 404)


def test_openais_client_for_javascript_does_all_of_it(served: Served) -> None:
    environment = os.environ | {"KOMA_V1": served.v1, "KOMA_API_KEY": served.key, "KOMA_CLIP": str(CLIP)}
    done = subprocess.run(
        ["node", "--test", "tests/clients/openai.mjs"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
