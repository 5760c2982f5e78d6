"""A runner that does what its parameters say and waits where it is told to; an engine beside the caller."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast

from pydantic import Field

from koma.errors import KomaError
from koma.models.parameters import Parameters
from koma.port.messages import Done, Failed, NodeMessage, Progress, Submit
from koma.provenance.stamp import Marks
from koma.runtime.engine import Engine
from koma.runtime.runner import InputSpec, Loaded, Output, Preview, Request, Runner, State, TaskSpec

Wanted = TypeVar("Wanted")
Place = Literal["nowhere", "prepare", "key", "step", "text", "preview", "encode", "finish"]
ErrorKind = Literal["runtime", "koma", "memory", "exit", "cuda", "disk"]
TASK = "script.run"


class Script(Parameters):
    """What one job does."""

    steps: int = Field(3, ge=0, le=1000, description="Forward passes.")
    key: str = Field("a", max_length=20, description="Jobs of one key share forwards.")
    tokens: bool = Field(False, description="Make a piece of text in every step.")
    text_bytes: int = Field(0, ge=0, description="Size of the result.")
    preview_bytes: int = Field(0, ge=0, description="Size of the previews.")
    stuck: bool = Field(False, description="Do not advance in a step.")
    fail_in: Place = Field("nowhere", description="The phase that raises.")
    fail_at: int = Field(0, ge=0, description="The step that raises.")
    error: ErrorKind = Field("runtime", description="What it raises.")
    seed: int | None = Field(None, ge=0, description="Travels into the result.")


class ScriptedRunner(Runner):
    """Records every forward as the tuple of its job ids.

    ``permits`` (None: no waiting) is acquired once for each forward; ``prepare_gate`` and ``finish_gate``
    must be set for those phases to go on. ``fits`` is the largest batch that does not run out of memory.
    """

    preparers = 1

    def __init__(self, fits: int | None = None, gated: bool = False) -> None:
        self.loaded = Loaded("script", "none", "0" * 64, "cpu", "none")
        outputs = {"text": "text/plain", "log": "text/plain"}
        inputs = {
            "image": InputSpec(("image/png",), "A picture."),
            "clip": InputSpec(("video/mp4",), "A clip."),
        }
        self.tasks: Mapping[str, TaskSpec] = {
            TASK: TaskSpec(Script, inputs, outputs, lambda params: int(params.steps))
        }
        self.fits = fits
        self.permits = threading.Semaphore(0) if gated else None
        self.prepare_gate, self.finish_gate = threading.Event(), threading.Event()
        self.prepare_gate.set()
        self.finish_gate.set()
        self.forwards: list[tuple[str, ...]] = []
        self.seen: SimpleQueue[tuple[str, str]] = SimpleQueue()
        """(phase, job id) of every phase that began."""

    def allow(self, forwards: int) -> None:
        """Permit forwards of a gated runner."""
        if self.permits is None:
            raise AssertionError("this runner waits for no permits")
        for _ in range(forwards):
            self.permits.release()

    def prepare(self, request: Request) -> State:
        """Wait for the gate."""
        self.seen.put(("prepare", request.id))
        _wait(self.prepare_gate)
        _maybe_raise(request, "prepare")
        return _ScriptState(request, request.params.steps, done=request.params.steps == 0)

    def key(self, state: State) -> Hashable:
        """As scripted."""
        _maybe_raise(state.request, "key")
        return cast(str, state.request.params.key)

    def step(self, states: Sequence[State]) -> None:
        """Wait for a permit, then advance all or none."""
        self.seen.put(("step", states[0].request.id))
        if self.permits is not None and not self.permits.acquire(timeout=20):
            raise AssertionError("nobody permitted this forward")
        self.forwards.append(tuple(state.request.id for state in states))
        if self.fits is not None and len(states) > self.fits:
            raise MemoryError("too many rows")
        for state in states:
            if state.step == state.request.params.fail_at:
                _maybe_raise(state.request, "step")
        for state in states:
            state.step += 0 if state.request.params.stuck else 1
            state.done = state.step >= state.total

    def text(self, state: State) -> str:
        """One word for each step."""
        _maybe_raise(state.request, "text")
        return f"{state.step} " if state.request.params.tokens else ""

    def preview(self, state: State) -> Callable[[], Preview]:
        """Encoded on the worker thread."""
        _maybe_raise(state.request, "preview")
        request, size, step = state.request, state.request.params.preview_bytes, state.step

        def encode() -> Preview:
            self.seen.put(("encode", request.id))
            _maybe_raise(request, "encode")
            return Preview("image/png", bytes(size), step, step)

        return encode

    def finish(self, state: State) -> list[Output]:
        """Wait for the gate, then write a file and a text."""
        self.seen.put(("finish", state.request.id))
        _wait(self.finish_gate)
        path = state.request.folder() / "log.txt"
        path.write_text("finished")
        _maybe_raise(state.request, "finish")
        body = f"seed {state.request.params.seed}".ljust(state.request.params.text_bytes, ".")
        return [Output("text", "text/plain", text=body), Output("log", "text/plain", path=path)]


@dataclass
class _ScriptState(State):
    """Nothing but the counters."""


class RunningEngine:
    """An engine on a thread of its own; a context manager that stops it. Messages are kept in ``heard``."""

    def __init__(
        self,
        runner: Runner,
        folder: Path,
        slots: int = 4,
        preview_interval_s: float = 0.0,
        patience_s: float = 20.0,
        marks: Marks | None = None,
    ) -> None:
        self.heard: list[NodeMessage] = []
        self.error: BaseException | None = None
        self._new: SimpleQueue[NodeMessage] = SimpleQueue()
        self._folder, self._patience_s = folder, patience_s
        self.engine = Engine(runner, slots, self._new.put, preview_interval_s, marks=marks)
        self.thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.stop()
        self.thread.join(self._patience_s)

    def submit(
        self,
        job_id: str,
        attempt: int = 1,
        previews: bool = False,
        inputs: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> None:
        """Hand a job to the engine."""
        folder = str(self._folder / f"{job_id}-{attempt}")
        self.engine.submit(Submit(job_id, attempt, TASK, params, inputs or {}, folder, previews))

    def wait_for(self, kind: type[Wanted], job_id: str | None = None, **fields: Any) -> Wanted:
        """Wait for the next message of a type, about a job, with these fields."""
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                message = self._new.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                raise AssertionError(f"no {kind.__name__} came; heard: {self.heard[-8:]}") from self.error
            self.heard.append(message)
            wanted = {**fields, **({} if job_id is None else {"id": job_id})}
            if isinstance(message, kind) and all(getattr(message, k) == v for k, v in wanted.items()):
                return message

    def settle(self) -> None:
        """Wait until every job submitted so far has been prepared; needs a free slot.

        The preparer takes jobs in turn, so one more that fails in it comes after them.
        """
        self.submit("barrier", fail_in="prepare", error="koma")
        self.wait_for(Failed, "barrier")

    def all_join(self, runner: ScriptedRunner, job_ids: Sequence[str]) -> None:
        """Permit forwards of a gated runner, one by one, until every job takes part in them."""
        for job_id in job_ids:
            while not any(message.phase == "step" for message in self.of(job_id, Progress)):
                runner.allow(1)
                self.wait_for(Progress)

    def wait_for_all(self, kind: type[Wanted], job_ids: Sequence[str]) -> dict[str, Wanted]:
        """Wait until every job has been told a message of a type."""
        found: dict[str, Wanted] = {}
        while set(found) != set(job_ids):
            message = self.wait_for(kind)
            found[getattr(message, "id", "")] = message
        return found

    def wait_for_ends(self, job_ids: Sequence[str]) -> dict[str, Done | Failed]:
        """Wait until every job has ended, one way or the other."""
        return self.wait_for_all(cast(type[Done | Failed], Done | Failed), job_ids)

    def join(self) -> None:
        """Wait until ``run`` has returned and take in what was said until then."""
        self.thread.join(self._patience_s)
        if self.thread.is_alive():
            raise AssertionError("the engine did not end")
        while not self._new.empty():
            self.heard.append(self._new.get())

    def of(self, job_id: str, *kinds: type) -> list[Any]:
        """Return what was heard about a job, of some types (default: all)."""
        about = [message for message in self.heard if getattr(message, "id", None) == job_id]
        return [message for message in about if not kinds or isinstance(message, kinds)]

    def _run(self) -> None:
        try:
            self.engine.run()
        except Exception as error:
            self.error = error


def _wait(gate: threading.Event) -> None:
    if not gate.wait(20):
        raise AssertionError("nobody opened the gate")


def _maybe_raise(request: Request, place: Place) -> None:
    params = cast(Script, request.params)
    if params.fail_in != place:
        return
    errors: Mapping[ErrorKind, BaseException] = {
        "runtime": RuntimeError(f"scripted\nin {place}"),
        "koma": KomaError("invalid_media", "scripted", field="image", value="x", bound="y"),
        "memory": MemoryError("scripted"),
        "exit": SystemExit(3),
        "cuda": RuntimeError("CUDA error: device-side assert triggered"),
        "disk": OSError(28, "No space left on device"),
    }
    raise errors[params.error]
