"""Outputs of a server say that a machine made them, to readers that know its root and nothing else of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from tests.end_to_end.command import koma
from tests.end_to_end.server import running_server
from tests.provenance.pictures import picture

from koma.cli.server_process import ServerProcess
from koma.provenance.mark import detect, pattern, search
from koma.provenance.signing import files, keys
from koma.testing import marked

SMALL = {"width": 64, "height": 64, "steps": 1, "seed": 7}


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


def test_an_image_and_the_video_made_of_it_bear_both_marks_and_name_each_other(
    full_server: ServerProcess, tmp_path: Path
) -> None:
    server, data = full_server, full_server.log.parent
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
        path = tmp_path / "output"
        path.write_bytes(content)
        reading = detect.detect(marked.frames(path, output["media_type"]), key, [search.in_place])
        assert reading is not None
        assert reading.found
        assert reading.payload.id == output["meta"]["marks"]["id"]
    assert len(found.manifests) == 2, "the video's statement carries that of its image on"
    models = httpx.get(f"{server.url}/v1/models").json()["data"]
    made = [model["marks"] for model in models if "marks" in model]
    assert made == [{"invisible": True, "signed": True}] * 2
    again = _run(server, "image.generate", {"prompt": "a cup of coffee", **SMALL})
    pixels = [np.asarray(Image.open(io.BytesIO(_stored(server, made)))) for made in (image, again)]
    assert (pixels[0] == pixels[1]).all()


def _verdict(server: ServerProcess, content: bytes) -> Any:
    answer = httpx.post(f"{server.url}/v1/verify", content=content, timeout=120)
    answer.raise_for_status()
    return answer.json()


def _saved(content: bytes, kind: str) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(file, kind, quality=80)
    return file.getvalue()


def test_the_detector_tells_what_each_layer_of_a_file_says(
    full_server: ServerProcess, tmp_path: Path
) -> None:
    server = full_server
    made = _run(server, "image.generate", {"prompt": "a cup of coffee", **SMALL})
    content = _stored(server, made)
    told = {
        "kept": _verdict(server, content),
        "stripped": _verdict(server, _saved(content, "PNG")),
        "compressed": _verdict(server, _saved(content, "JPEG")),
        "changed": _verdict(server, content[:-30] + bytes([content[-30] ^ 1]) + content[-29:]),
        "another": _verdict(server, _saved(_plain(), "PNG")),
        "no picture": _verdict(server, b"Koma " * 100),
    }
    assert {name: answer["verdict"] for name, answer in told.items()} == {
        "kept": "made_here",
        "stripped": "made_here",
        "compressed": "made_here",
        "changed": "tampered",
        "another": "unknown",
        "no picture": "unknown",
    }
    assert told["kept"]["c2pa"]["state"] == "Trusted"
    assert told["kept"]["log"]["exact"]
    for name in ("stripped", "compressed"):
        assert not told[name]["c2pa"]["present"]
        assert told[name]["watermark"]["id"] == made["meta"]["marks"]["id"]
        matches = {item["artifact"]: item["match"] for item in told[name]["log"]["yours"]}
        assert matches[made["artifact"]] == "mark"
    found = httpx.get(f"{server.url}/v1/manifests/{made['meta']['marks']['id']}").json()
    assert made["artifact"] in [item["artifact"] for item in found["matches"]]
    assert httpx.get(f"{server.url}/v1/manifests/0000000000").status_code == 404
    assert "does not mean" in told["another"]["meaning"]
    named = httpx.post(f"{server.url}/v1/verify", json={"artifact": made["artifact"]}, timeout=120).json()
    assert named["verdict"] == "made_here"
    refused = httpx.post(f"{server.url}/v1/verify", json={"artefact": "x"}).json()
    assert refused["error"]["code"] == "missing_field"
    empty = httpx.post(f"{server.url}/v1/verify", content=b"").json()
    assert empty["error"]["code"] == "invalid_media"
    (tmp_path / "a.png").write_bytes(content)
    (tmp_path / "b.png").write_bytes(_plain())
    done = koma(server, "verify", "a.png", "b.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a.png: made_here" in done.stdout
    assert "b.png: unknown" in done.stdout


def _plain() -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(9, 96, 96)).save(file, "PNG")
    return file.getvalue()


def test_marks_that_are_off_are_told(tmp_path: Path) -> None:
    environment = {"KOMA_MODELS": "amused:1", "KOMA_MARKS": "off"}
    with running_server(tmp_path, environment) as server:
        made = _run(server, "image.generate", {"prompt": "a cup of coffee", **SMALL})
        assert "marks" not in made["meta"]
        [model] = httpx.get(f"{server.url}/v1/models").json()["data"]
        assert model["marks"] == {"invisible": False, "signed": False}
        assert "marks are off: signed" in httpx.get(f"{server.url}/dashboard").text
