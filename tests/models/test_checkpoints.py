"""Checkpoints: where they are found, how they are named, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from koma.errors import KomaError
from koma.models import checkpoints, manifest, registry, untrained
from koma.models.device import place
from koma.models.lru import Lru

FAMILIES = ["amused", "ltx_video", "smolvlm2"]
WEIGHTS = {
    "amused": "transformer/diffusion_pytorch_model.safetensors",
    "ltx_video": "vae/diffusion_pytorch_model.safetensors",
    "smolvlm2": "model.safetensors",
}
Checkpoint = Callable[[str], Path]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def copy(family: str, checkpoint: Checkpoint, tmp_path: Path) -> Path:
    return shutil.copytree(checkpoint(family), tmp_path / family)


def _load(family: str, folder: Path | str, options: dict[str, Any] | None = None) -> Any:
    return registry.load(family, str(folder), "cpu", "float32", 4, options or {})


def _refusal(action: Callable[[], object]) -> KomaError:
    with pytest.raises(KomaError) as refused:
        action()
    assert refused.value.code == "load_failed"
    return refused.value


def test_an_untrained_checkpoint_says_that_its_results_are_noise(family: str, checkpoint: Checkpoint) -> None:
    loaded = _load(family, checkpoint(family)).loaded
    assert loaded.notice == "untrained weights: the results are noise"
    assert (loaded.family, loaded.device, loaded.dtype) == (family, "cpu", "float32")


def test_an_untrained_checkpoint_is_built_the_same_again(
    family: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    again = untrained.build(registry.find(family), tmp_path / "again")
    assert checkpoints.digest(again) == checkpoints.digest(checkpoint(family))


def test_the_name_untrained_is_built_once_in_the_cache_of_the_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = checkpoints.resolve("untrained", registry.find("smolvlm2"))
    assert tmp_path in folder.parents
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert checkpoints.resolve("untrained", registry.find("smolvlm2")) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written


def test_the_default_without_a_trained_checkpoint_is_served_untrained_and_says_so(
    family: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bare = replace(registry.find(family), shipped=tmp_path / "empty")
    for name in ("emoji", "default"):
        folder = checkpoints.resolve(name, bare)
        assert manifest.read(folder, {}).notice == untrained.NOTICE
    assert "it is served untrained" in caplog.text


@pytest.mark.parametrize("name", ["no-such-name", "/no/such/folder", "", "a/b/c"])
def test_what_is_no_checkpoint_is_refused_by_name(family: str, name: str) -> None:
    error = _refusal(lambda: _load(family, name))
    assert (error.field, error.value) == ("checkpoint", name)


def test_a_hub_id_without_the_hub_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    error = _refusal(lambda: checkpoints.resolve("amused/amused-256", registry.find("amused")))
    assert "hub" in error.message


def test_an_empty_folder_is_refused(family: str, tmp_path: Path) -> None:
    assert str(tmp_path) in _refusal(lambda: _load(family, tmp_path)).message


def test_truncated_weights_are_refused(family: str, copy: Path) -> None:
    path = copy / WEIGHTS[family]
    path.write_bytes(path.read_bytes()[:-100])
    assert str(copy) in _refusal(lambda: _load(family, copy)).message


def test_missing_weights_are_refused_and_not_filled_with_noise(family: str, copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = copy / WEIGHTS[family]
    weights = load_file(path)
    gone = sorted(weights)[0]
    save_file({name: value for name, value in weights.items() if name != gone}, path, {"format": "pt"})
    assert "missing" in _refusal(lambda: _load(family, copy)).message


def test_a_checkpoint_of_another_family_is_refused(checkpoint: Checkpoint) -> None:
    _refusal(lambda: _load("amused", checkpoint("ltx_video")))
    _refusal(lambda: _load("smolvlm2", checkpoint("amused")))


def test_the_digest_follows_weights_and_configuration_but_not_the_card(copy: Path, family: str) -> None:
    first = checkpoints.digest(copy)
    (copy / "README.md").write_text("a card")
    assert checkpoints.digest(copy) == first
    path = copy / WEIGHTS[family]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    changed = checkpoints.digest(copy)
    assert changed != first
    (copy / "koma.json").write_text("{}")
    assert checkpoints.digest(copy) not in (first, changed)


def test_a_link_into_the_cache_of_the_hub_is_named_by_its_blob(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    (blobs / "aaaa").write_bytes(b"weights")
    folder = tmp_path / "snapshot"
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(blobs / "aaaa")
    first = checkpoints.digest(folder)
    (blobs / "aaaa").write_bytes(b"the name stands for the content")
    assert checkpoints.digest(folder) == first


def test_options_win_over_the_koma_json_of_the_checkpoint(copy: Path) -> None:
    (copy / "koma.json").write_text(json.dumps({"defaults": {"seed": 1}, "notice": "mine"}))
    runner = _load(copy.name, copy, {"defaults": {"seed": 2}})
    [task] = runner.tasks.values()
    assert task.params.model_json_schema()["properties"]["seed"]["default"] == 2
    assert runner.loaded.notice == "mine"


@pytest.mark.parametrize(
    "manifest",
    [{"defaults": {"colour": 1}}, {"defaults": {"seed": -1}}, {"maxima": {"sead": 1}}, {"surprise": 1}, [1]],
    ids=str,
)
def test_a_koma_json_that_fits_no_parameter_is_refused(copy: Path, manifest: Any) -> None:
    (copy / "koma.json").write_text(json.dumps(manifest))
    _refusal(lambda: _load(copy.name, copy))


def test_maxima_bound_what_is_asked_for(checkpoint: Checkpoint) -> None:
    runner = _load("ltx_video", checkpoint("ltx_video"), {"maxima": {"frames": 25, "width": 96}})
    fields = runner.tasks["video.generate"].params.model_json_schema()["properties"]
    assert (fields["frames"]["enum"][-1], fields["width"]["maximum"]) == (25, 96)


def test_a_default_beyond_a_maximum_is_refused(checkpoint: Checkpoint) -> None:
    error = _refusal(lambda: _load("ltx_video", checkpoint("ltx_video"), {"maxima": {"width": 32}}))
    assert "width" in error.message


def test_unknown_settings_are_refused(checkpoint: Checkpoint) -> None:
    error = _refusal(lambda: _load("ltx_video", checkpoint("ltx_video"), {"settings": {"tiling": True}}))
    assert error.field == "settings"


def test_auto_takes_float32_on_a_cpu_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    placement = place()
    assert (placement.device.type, placement.dtype) == ("cpu", torch.float32)
    assert "no CUDA here" in placement.reason


@pytest.mark.parametrize(
    ("device", "dtype", "field"),
    [
        ("tpu", "auto", "device"),
        ("cuda", "auto", "device"),
        ("cuda:x", "auto", "device"),
        ("cpu", "int4", "dtype"),
    ],
)
def test_a_device_or_dtype_that_is_not_there_is_refused(
    device: str, dtype: str, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _refusal(lambda: place(device, dtype)).field == field


def test_a_cache_forgets_what_was_used_longest_ago() -> None:
    made: list[str] = []

    def get(cache: Lru[str], key: str) -> str:
        def make() -> str:
            made.append(key)
            return key.upper()

        return cache.get(key, make)

    cache: Lru[str] = Lru(2)
    assert [get(cache, key) for key in "abacb"] == list("ABACB")
    assert made == ["a", "b", "c", "b"]
    assert len(cache) == 2
