"""The training loop that all runs share: schedule by steps or time, averages, sheets, exact resume."""

from __future__ import annotations

import json
import math
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from koma.training.ema import Average
from koma.training.optimizer import make_optimizers
from koma.training.progress import Progress
from koma.training.state import Position, load_state, save_state
from koma.training.weights import load_weights

CHECKPOINT = "checkpoint.safetensors"
LOSSES = "losses.jsonl"
SMALL = 64
"""Largest side in pixels that runs are sized for a CPU at; larger ones want a GPU."""
STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Options:
    """How long, where and from what seed to train; at least one of `minutes` and `steps` bounds the run."""

    out: Path
    minutes: float | None = None
    steps: int | None = None
    resume: bool = False
    device: str = "auto"
    seed: int = 0
    sheet_every: int = 1000
    save_seconds: float = 120.0
    save_every: int | None = None
    compile: bool = True
    export: Path | None = None
    start_from: Path | None = None

    def __post_init__(self) -> None:
        """Refuse a run without an end."""
        if self.minutes is None and self.steps is None:
            raise ValueError("a run needs an end: give minutes or steps")
        for name, value in (("minutes", self.minutes), ("steps", self.steps), ("seed", self.seed)):
            if value is not None and value < 0:
                raise ValueError(f"{name} must not be negative, got {value}")

    def progress(self, step: int, elapsed: float) -> float:
        """The part of the run that is done, 0 to 1: by steps, by seconds, or whichever is further."""
        by_steps = step / self.steps if self.steps else float(self.steps == 0)
        by_time = elapsed / (60 * self.minutes) if self.minutes else float(self.minutes == 0)
        return min(1.0, max(by_steps, by_time))


class Run(ABC):
    """What one model brings to the loop; the loop sets `options`, `progress` (0 to 1), finally `result`."""

    name: str
    lr: float = 2e-3
    warmup: float = 0.02
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    muon: bool = True
    clip: float = 1.0
    ema_decay: float = 0.999
    bfloat16_on_cpu: bool = False
    """Whether a CPU, too, multiplies in bfloat16."""
    exported: ClassVar[Mapping[str, str]]
    """Names of `modules()` → where `export` puts their weights, below the checkpoint's folder."""
    progress: float = 0.0
    options: Options
    result: Result

    @abstractmethod
    def build(self, device: torch.device) -> None:
        """Make modules and data sources on `device`; called once, after `torch.manual_seed(options.seed)`."""

    @abstractmethod
    def modules(self) -> dict[str, nn.Module]:
        """Everything that is trained: saved, resumed, averaged. Frozen parts stay out."""

    @abstractmethod
    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Scalar loss and figures to show; the batch must follow from `generator` or `batch_seed` alone.

        Figures may be detached tensors: they are read only when shown, so that no GPU is waited for.
        """

    def started(self) -> None:  # noqa: B027 (optional hook)
        """Called when the modules were filled with the weights of `options.start_from`."""

    def after_step(self, step: int, generator: torch.Generator) -> None:  # noqa: B027 (optional hook)
        """Called without gradients after each update."""

    @abstractmethod
    def sheet(self, path: Path) -> None:
        """Write samples to `path` plus a suffix (.png, .gif); called with the averaged weights."""

    @abstractmethod
    def export(self, path: Path) -> None:
        """Write the checkpoint folder `path`; called with the averaged weights."""

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Fresh optimizers for `modules()`; the loop sets their learning rates."""
        return make_optimizers(self.modules(), self.lr, self.weight_decay, self.betas, self.muon)

    def batch_seed(self, step: int) -> int:
        """The seed of the batch of one step, for data sources that take an integer."""
        return derive_seed(self.options.seed, step)


@dataclass
class Result:
    """How a call of `fit` ended. `losses` are those of this call, one a step, from `first_step` on."""

    steps: int
    elapsed: float
    finished: bool
    first_step: int
    losses: list[float] = field(default_factory=list)


class TrainingDivergedError(RuntimeError):
    """The loss is not a finite number any more; the last checkpoint on disk is from before."""


def derive_seed(seed: int, step: int) -> int:
    """A 63-bit seed from (seed, step), the same on every machine (SplitMix64's finaliser)."""
    mask = (1 << 64) - 1
    z = (seed * 0x9E3779B97F4A7C15 + (step + 1) * 0xD1B54A32D192ED03) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) >> 1


def learning_rate(run: Run, progress: float) -> float:
    """Linear warm-up over the first `run.warmup` of the run, then a cosine down to zero at its end."""
    if progress < run.warmup:
        return run.lr * (progress + 1e-3) / (run.warmup + 1e-3)
    through = (progress - run.warmup) / (1 - run.warmup)
    return run.lr * 0.5 * (1 + math.cos(math.pi * through))


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def fit(run: Run, options: Options) -> Result:
    """Train `run` until its end or a stop signal; then save, and at the end draw a sheet and export."""
    return _Fitting(run, options).go()


class _Fitting:
    """One call of `fit`."""

    def __init__(self, run: Run, options: Options) -> None:
        self.started = time.monotonic()
        self.run, self.options = run, options
        run.options = options
        self.device = choose_device(options.device)
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.benchmark = True
        torch.manual_seed(options.seed)
        run.build(self.device)
        resumes = options.resume and self.checkpoint.exists()
        if options.start_from and not resumes:
            self._start_from(options.start_from)
        self.parameters = [p for m in run.modules().values() for p in m.parameters() if p.requires_grad]
        self.optimizers = run.optimizers()
        self.average = Average(run.modules(), run.ema_decay)
        self.generator = torch.Generator(self.device)
        self.position = Position(seed=options.seed)
        if resumes:
            self.position = load_state(self.checkpoint, run.modules(), self.optimizers, self.average)
        self.earlier = self.position.elapsed
        self.saved = self.shown = time.monotonic()
        self.pending: list[tuple[int, Tensor, Mapping[str, float | Tensor]]] = []
        self.result = Result(self.position.step, self.earlier, False, self.position.step)

    @property
    def checkpoint(self) -> Path:
        return self.options.out / CHECKPOINT

    def go(self) -> Result:
        self.options.out.mkdir(parents=True, exist_ok=True)
        self._forget_losses_after(self.position.step)
        step = self.position.step
        with Progress(self.run.name, self.options.steps) as self.display, _stop_signals() as stopping:
            while (progress := self.options.progress(step, self._elapsed())) < 1 and not stopping:
                self._step(step, progress)
                step += 1
                self._housekeeping(step)
            self._show(step)
            self._save(step)
            self.result.finished = self.options.progress(step, self._elapsed()) >= 1
            if self.result.finished:
                self._sheet(step)
                self.run.result = self.result
                with self.average.applied(), torch.no_grad():
                    self.run.export(self.options.export or self.options.out / "export")
        return self.result

    def _start_from(self, folder: Path) -> None:
        modules = self.run.modules()
        for name, place in self.run.exported.items():
            load_weights(modules[name], folder / place)
        self.run.started()

    def _step(self, step: int, progress: float) -> None:
        seed = derive_seed(self.position.seed, step)
        torch.manual_seed(seed)
        self.generator.manual_seed(seed)
        self.run.progress = progress
        rate = learning_rate(self.run, progress)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        bfloat16 = self.device.type == "cuda" or self.run.bfloat16_on_cpu
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16), self._attention(bfloat16):
            loss, figures = self.run.loss(step, self.generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.run.clip, foreach=True)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            self.run.after_step(step, self.generator)
        self.average.update(step)
        self.pending.append((step, loss.detach(), figures))

    def _attention(self, bfloat16: bool) -> AbstractContextManager[object]:
        """In bfloat16 the fused attention of a CPU takes four times as long backwards as plain products."""
        if bfloat16 and self.device.type == "cpu":
            return sdpa_kernel(SDPBackend.MATH)
        return nullcontext()

    def _housekeeping(self, step: int) -> None:
        now = time.monotonic()
        if now - self.shown > 5:
            self._show(step)
        by_step = self.options.save_every and step % self.options.save_every == 0
        if by_step or now - self.saved > self.options.save_seconds:
            self._show(step)
            self._save(step)
        if step % self.options.sheet_every == 0:
            self._sheet(step)

    def _show(self, step: int) -> None:
        """Read the losses since the last time, write them to the log and show the latest."""
        self.shown = time.monotonic()
        if not self.pending:
            return
        losses = torch.stack([loss.float() for _, loss, _ in self.pending]).tolist()
        with (self.options.out / LOSSES).open("a") as log:
            for (number, _, _), loss in zip(self.pending, losses, strict=True):
                log.write(json.dumps({"step": number, "loss": loss}) + "\n")
        figures = {name: float(value) for name, value in self.pending[-1][2].items()}
        self.pending.clear()
        self.result.losses += losses
        if not all(math.isfinite(loss) for loss in losses):
            raise TrainingDivergedError(f"{self.run.name}: the loss is {losses[-1]} before step {step}")
        elapsed = self._elapsed()
        progress = self.options.progress(step, elapsed)
        recent = sum(losses) / len(losses)
        rate = learning_rate(self.run, progress)
        self.display.line(step, progress, elapsed, {"loss": recent, "lr": rate, **figures})

    def _save(self, step: int) -> None:
        self.saved = time.monotonic()
        self.result.steps, self.result.elapsed = step, self._elapsed()
        position = Position(step, self._elapsed(), self.position.seed)
        save_state(self.checkpoint, position, self.run.modules(), self.optimizers, self.average)

    def _sheet(self, step: int) -> None:
        modes = {module: module.training for root in self.run.modules().values() for module in root.modules()}
        with self.average.applied(), torch.no_grad():
            for root in self.run.modules().values():
                root.eval()
            self.run.sheet(self.options.out / "sheets" / f"{step:06d}")
        for module, mode in modes.items():
            module.training = mode

    def _forget_losses_after(self, step: int) -> None:
        log = self.options.out / LOSSES
        kept = log.read_text().splitlines()[:step] if log.exists() else []
        log.write_text("".join(line + "\n" for line in kept))

    def _elapsed(self) -> float:
        return self.earlier + time.monotonic() - self.started


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that becomes non-empty on the first SIGINT or SIGTERM; the second one acts as usual."""
    stopping: list[int] = []
    before = {number: signal.getsignal(number) for number in STOPPING_SIGNALS}

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for number in STOPPING_SIGNALS:
        signal.signal(number, stop)
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
