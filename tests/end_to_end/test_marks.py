"""Outputs of a server say that a machine made them, to readers that know its root and nothing else of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from tests.end_to_end.server import running_server

from koma.cli.server_process import ServerProcess
from koma.provenance.mark import detect, pattern, search
from koma.provenance.signing import files, keys
from koma.testing import marked

SMALL = {"width": 64, "height": 64, "steps": 1, "seed": 7}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("marking-server")


def _run(
    server: ServerProcess, task: str, params: dict[str, Any], inputs: dict[str, str] | None = None
) -> Any:
    body = {"task": task, "params": params, "inputs": inputs or {}}
    answer = httpx.post(f"{server.url}/v1/jobs?wait=true", json=body, timeout=120)
    answer.raise_for_status()
    job = answer.json()
    assert job["state"] == "completed", job
    return job["outputs"][0]


def _stored(server: ServerProcess, output: Any) -> bytes:
    return httpx.get(f"{server.url}{output['url']}").content


def test_an_image_and_the_video_made_of_it_bear_both_marks_and_name_each_other(data: Path) -> None:
    with running_server(data, {"KOMA_MODELS": "amused:1,ltx_video:1"}) as server:
        image = _run(server, "image.generate", {"prompt": "a cup of coffee", **SMALL})
        clip = {"prompt": "a cup of coffee", "width": 64, "height": 64, "steps": 1, "frames": 9, "seed": 7}
        video = _run(server, "video.generate", clip, {"image": image["artifact"]})
        root = next(data.rglob(keys.ROOT)).read_text()
        key = pattern.of_key(next(data.rglob(keys.MARK_KEY)).read_bytes())
        for output in (image, video):
            content = _stored(server, output)
            found = files.read(io.BytesIO(content), output["media_type"], [root])
            assert (found.state, found.failures) == ("Trusted", ())
            assert "coffee" not in str(found.manifests)
            path = data / "output"
            path.write_bytes(content)
            reading = detect.detect(marked.frames(path, output["media_type"]), key, [search.in_place])
            assert reading is not None
            assert reading.found
            assert reading.payload.id == output["meta"]["marks"]["id"]
        assert len(found.manifests) == 2, "the video's statement carries that of its image on"
        models = httpx.get(f"{server.url}/v1/models").json()["data"]
        assert all(model["marks"] == {"invisible": True, "signed": True} for model in models)
        again = _run(server, "image.generate", {"prompt": "a cup of coffee", **SMALL})
        pixels = [np.asarray(Image.open(io.BytesIO(_stored(server, made)))) for made in (image, again)]
        assert (pixels[0] == pixels[1]).all()
