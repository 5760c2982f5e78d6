"""The stock classes of diffusers and transformers, loaded once and called as their documentation shows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch

from koma.bench.setting import Setting
from koma.bench.workload import Request
from koma.models import checkpoints, registry
from koma.models.device import DTYPES
from koma.models.media import encode as media
from koma.models.media import video as videos
from koma.models.torchvision_shim import make_torchvision_importable
from koma.runtime.runner import InputFile


class Pipeline(Protocol):
    """Runs whole requests."""

    def key(self, request: Request) -> Hashable:
        """Requests of equal key may be given to one call."""
        ...

    def run(self, requests: Sequence[Request]) -> None:
        """Run one call, results written to files as Koma writes them."""
        ...


class Diffusers:
    """A pipeline of diffusers, by the name of its class."""

    name: ClassVar[str]

    def __init__(self, folder: Path, results: Path, device: str, dtype: torch.dtype) -> None:
        import diffusers

        stock: Any = getattr(diffusers, self.name)
        self._pipeline: Any = stock.from_pretrained(folder, torch_dtype=dtype).to(device)
        self._pipeline.set_progress_bar_config(disable=True)
        self._results = results
        self._device = device

    def key(self, request: Request) -> Hashable:
        """One call has one number of steps."""
        return request.params["steps"]


class Amused(Diffusers):
    """``AmusedPipeline``."""

    name = "AmusedPipeline"

    def run(self, requests: Sequence[Request]) -> None:
        """Paint and write."""
        params = requests[0].params
        asked = {name: params[name] for name in ("width", "height", "guidance_scale") if name in params}
        images = self._pipeline(
            [request.params["prompt"] for request in requests],
            num_inference_steps=params["steps"],
            generator=torch.Generator(self._device).manual_seed(params["seed"]),
            **asked,
        ).images
        for number, image in enumerate(images):
            image.save(self._results / f"{number}.png")


class LtxVideo(Diffusers):
    """``LTXPipeline``."""

    name = "LTXPipeline"

    def run(self, requests: Sequence[Request]) -> None:
        """Film and write."""
        params = requests[0].params
        names = {"width": "width", "height": "height", "frames": "num_frames", "fps": "frame_rate"}
        names |= {"steps": "num_inference_steps", "guidance_scale": "guidance_scale"}
        videos_made = self._pipeline(
            [request.params["prompt"] for request in requests],
            generator=torch.Generator(self._device).manual_seed(params["seed"]),
            output_type="np",
            **{theirs: params[ours] for ours, theirs in names.items() if ours in params},
        ).frames
        for frames in videos_made:
            media.write_mp4(self._results, (frames * 255).round().astype("uint8"), params.get("fps", 25))


class SmolVlm2:
    """``SmolVLMForConditionalGeneration`` and its processor."""

    def __init__(self, folder: Path, results: Path, device: str, dtype: torch.dtype) -> None:
        from transformers import SmolVLMForConditionalGeneration, SmolVLMProcessor

        loaded: Any = SmolVLMForConditionalGeneration.from_pretrained(folder, dtype=dtype)
        self._model: Any = loaded.to(device)
        self._processor: Any = SmolVLMProcessor.from_pretrained(folder)
        self._processor.tokenizer.padding_side = "left"

    def key(self, request: Request) -> Hashable:
        """Answers of all lengths go together."""
        return "video"

    def run(self, requests: Sequence[Request]) -> None:
        """Answer; a batch goes on until the longest answer is there."""
        longest = max(request.params["max_new_tokens"] for request in requests)
        with torch.inference_mode():
            tokens = self._model.generate(**self._batch(requests), max_new_tokens=longest, do_sample=False)
        self._processor.batch_decode(tokens, skip_special_tokens=True)

    def _batch(self, requests: Sequence[Request]) -> Any:
        from transformers.video_utils import VideoMetadata

        texts, clips, metadata = [], [], []
        for request in requests:
            content = [{"type": "video"}, {"type": "text", "text": request.params["prompt"]}]
            turns = [{"role": "user", "content": content}]
            texts.append(self._processor.apply_chat_template(turns, add_generation_prompt=True))
            file = InputFile(Path(str(request.clip)), "", "video/mp4", 0)
            found = videos.probe(file, "video")
            clips.append(videos.frames(file, range(found.frames), "video"))
            metadata.append(
                VideoMetadata(total_num_frames=found.frames, fps=found.fps, duration=found.frames / found.fps)
            )
        return self._processor(
            text=texts,
            videos=clips,
            video_metadata=metadata,
            do_sample_frames=True,
            padding=True,
            return_tensors="pt",
        ).to(self._model.device, self._model.dtype)


_CLASSES: dict[str, Callable[[Path, Path, str, torch.dtype], Pipeline]] = {
    "amused": Amused,
    "ltx_video": LtxVideo,
    "smolvlm2": SmolVlm2,
}


def load(family: str, results: Path, setting: Setting) -> Pipeline:
    """Load the checkpoint that Koma would serve."""
    make_torchvision_importable()
    folder = checkpoints.resolve(setting.checkpoints[family], registry.find(family))
    return _CLASSES[family](folder, results, setting.device, DTYPES[setting.dtype])
