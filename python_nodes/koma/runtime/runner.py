"""What a model family must supply to be served: a :class:`Runner`, a set of phase functions over a
:class:`State`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel


@dataclass(frozen=True)
class InputSpec:
    """One named input of a task: the media types that it takes."""

    media_types: tuple[str, ...]
    description: str
    required: bool = False


@dataclass(frozen=True)
class TaskSpec:
    """One task of a family. ``params`` is the single declaration of its parameters: types, bounds, defaults,
    help."""

    params: type[BaseModel]
    inputs: Mapping[str, InputSpec]
    outputs: Mapping[str, str]
    """Output name -> media type."""
    steps: Callable[[Any], int] = lambda _params: 0
    """Checked parameters -> number of steps, as far as they tell it before ``prepare``; 0 = unknown."""
    count: Callable[[Mapping[str, Any]], Mapping[str, Mapping[str, Any]]] = lambda _params: {}
    """Parameters as somebody types them -> how much of each prompt among them the model reads. May be called
    from any thread while jobs run, so it must be quick and share nothing with them."""


@dataclass(frozen=True)
class InputFile:
    """A stored input, by path; its bytes are read by the runner, within the limits of
    ``koma.models.media``."""

    path: Path
    sha256: str
    media_type: str
    bytes: int


@dataclass(frozen=True)
class Request:
    """One job as a runner sees it: parameters already checked by the task's model."""

    id: str
    task: str
    params: Any
    inputs: Mapping[str, InputFile]
    output_dir: Path
    attempt: int = 1
    """1 the first time; greater after a model node died with the job."""

    def folder(self) -> Path:
        """Return ``output_dir``, which is made now: a job whose results are short texts never needs it, and
        making and deleting folders between two syncs of a disk is what a short job would mostly wait for."""
        self.output_dir.mkdir(parents=True, exist_ok=True)
        return self.output_dir


@dataclass
class State:
    """What the engine keeps of one job in flight; families subclass it with their tensors."""

    request: Request
    total: int
    """Number of steps until it is finished (an upper bound where the model may end earlier)."""
    step: int = 0
    """Steps done."""
    done: bool = False
    prompts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, kw_only=True)
    """How much of each prompt is read; told once the job is prepared."""


@dataclass(frozen=True)
class Preview:
    """A small encoded picture of the state of a job."""

    media_type: str
    data: bytes
    width: int
    height: int


@dataclass(frozen=True)
class Output:
    """One result: a file below ``Request.output_dir``, or a short text."""

    name: str
    media_type: str
    path: Path | None = None
    text: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Loaded:
    """What a family tells about itself once its checkpoint is loaded."""

    family: str
    checkpoint: str
    checkpoint_digest: str
    device: str
    dtype: str
    notice: str | None = None
    """Said to users beside results, e.g. that the weights are untrained."""


class Runner(Protocol):
    """The phases of one model family.

    The engine calls ``prepare`` on worker threads, ``finish`` on one, and everything else on its own thread.
    A phase may raise :class:`koma.errors.KomaError` to fail this job alone; any other exception fails the job
    as ``model_failed``. An out-of-memory error of ``step`` makes the engine halve the batch cap of that key
    and run the rows apart. A phase that takes long calls :func:`koma.runtime.pulse.beat` between its parts,
    lets ``Cancelled`` pass and leaves no file behind.
    """

    loaded: Loaded
    tasks: Mapping[str, TaskSpec]
    preparers: int
    """Jobs that are prepared at the same time; those that take long are not counted."""

    def prepare(self, request: Request) -> State:
        """Decode and validate inputs, encode the prompt, draw the initial noise from the job's own seed."""
        ...

    def key(self, state: State) -> Hashable:
        """What may share a forward: states of equal key."""
        ...

    def step(self, states: Sequence[State]) -> None:
        """ONE forward for all ``states`` (equal keys, any mix of step numbers); advances ``state.step``,
        sets ``state.done``.

        A step that raises leaves the states as they were: the engine runs the rows again, apart.
        """
        ...

    def text(self, state: State) -> str:
        """Text that became certain in the last step ("" for families that make none)."""
        ...

    def preview(self, state: State) -> Preview | Callable[[], Preview] | None:
        """A picture of what the result looks like so far; called only when somebody watches.

        Where decoding or encoding takes long, return a function: it is called on a worker thread while
        further steps run, so it must hold copies of what it needs.
        """
        ...

    def finish(self, state: State) -> list[Output]:
        """Decode and write the results. The text output of a streaming family equals the concatenated
        tokens."""
        ...
