"""The kit that every runner must pass.

    check_runner(runner, [params, …], task="image.generate", folder=tmp_path)

It drives the phases directly, in the order and mixture in which the engine does, so that a broken promise
shows here with a sentence instead of in a batch with strangers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from koma.errors import KomaError
from koma.port.limits import MAX_DEPTH, MAX_OUTPUTS
from koma.provenance.opening import makes_media
from koma.runtime.parameters import check, schema
from koma.runtime.pulse import Cancelled, Pulse, operation
from koma.runtime.runner import InputFile, Output, Preview, Request, Runner, State

Same = Callable[[Sequence[Output], Sequence[Output]], bool]


def check_runner(
    runner: Runner,
    params: Sequence[Mapping[str, Any]],
    *,
    task: str,
    folder: Path,
    inputs: Mapping[str, InputFile] | None = None,
    same: Same | None = None,
) -> None:
    """Hold ``runner`` to its contract with at least two sets of parameters (with seeds).

    Checks: schemas the gateway can read; steps that advance and end; outputs as declared; tokens that add up
    to the text; the same result from the same seed; a cancel within ``prepare`` and ``finish`` that ends them
    at the next beat and leaves nothing behind; the same result in flight with others, joining late, and
    with previews; and every picture and video bears the marks that say that a machine made it. ``same``
    compares the outputs of two runs, before the marks (default: equal bytes).

    Raises AssertionError naming the broken promise.
    """
    kit = _Kit(runner, task, folder, inputs or {}, same or same_bytes)
    _require(len(params) >= 2, "the kit needs at least two sets of parameters")
    check_schemas(runner)
    kit.check_cancel(params[0])
    if makes_media(runner):
        kit.check_marks(params[0])
    alone = [kit.run([values], f"alone-{index}")[0] for index, values in enumerate(params)]
    again = kit.run([params[0]], "again")[0]
    _require(kit.same(alone[0], again), "the same seed gave two different results")
    watched = kit.run([params[0]], "watched", previews=True)[0]
    _require(kit.same(alone[0], watched), "taking previews changed the result")
    together = kit.run(params, "together", late_by=1)
    for index, (single, shared) in enumerate(zip(alone, together, strict=True)):
        _require(kit.same(single, shared), f"set {index} gave another result in a batch than alone")


def check_schemas(runner: Runner) -> None:
    """Check what the gateway is told of the tasks: self-contained schemas, descriptions, media types."""
    _require(bool(runner.tasks), "a runner needs at least one task")
    for name, spec in runner.tasks.items():
        told = schema(spec.params)
        _require(_depth(told) + 4 <= MAX_DEPTH, f"{name}: the schema is nested too deeply for a frame")
        for parameter, declared in told["properties"].items():
            _require(bool(declared.get("description")), f"{name}: {parameter} has no description")
        for key, item in spec.inputs.items():
            _require(
                bool(item.media_types) and bool(item.description),
                f"{name}: the input {key} says little",
            )
        _require(bool(spec.outputs), f"{name}: no output is declared")


def same_bytes(first: Sequence[Output], second: Sequence[Output]) -> bool:
    """Whether two lists of outputs have equal names, media types and contents."""

    def content(output: Output) -> tuple[str, str, bytes]:
        data = (output.text or "").encode() if output.path is None else output.path.read_bytes()
        return output.name, output.media_type, data

    return [content(output) for output in first] == [content(output) for output in second]


class _Kit:
    def __init__(
        self, runner: Runner, task: str, folder: Path, inputs: Mapping[str, InputFile], same: Same
    ) -> None:
        self.runner, self.task, self.folder, self.inputs, self.same = runner, task, folder, inputs, same
        self.spec = runner.tasks[task]

    def run(
        self, params: Sequence[Mapping[str, Any]], label: str, late_by: int = 0, previews: bool = False
    ) -> list[list[Output]]:
        """Run the jobs in flight together; job ``k`` joins after ``k * late_by`` rounds."""
        jobs = [_Run(self._prepare(values, f"{label}-{index}")) for index, values in enumerate(params)]
        rounds = 0
        while any(not job.state.done for job in jobs):
            here = [job for index, job in enumerate(jobs) if index * late_by <= rounds]
            ready = [job for job in here if not job.state.done]
            self._round(ready, previews)
            rounds += 1
        return [self._finish(job) for job in jobs]

    def check_cancel(self, values: Mapping[str, Any]) -> None:
        """Cancel at beat 1, 3, 9, ... of ``prepare`` and then of ``finish``, until they end by themselves."""
        at = 1
        while _ends_at(at, partial(self._prepare, values, f"unprepared-{at}")):
            at *= 3
        _require(at > 1, "prepare never beats: it cannot be cancelled, nor be told from a hang")
        at = 1
        while self._cancels_finish(values, at):
            at *= 3

    def check_marks(self, values: Mapping[str, Any]) -> None:
        """Finish one job as the engine does, with marks, and read them back."""
        from koma.testing import marked  # needs the libraries that sign

        with tempfile.TemporaryDirectory() as keys:
            checks = marked.Checks(Path(keys), self.runner.loaded)
            state = self._prepare(values, "marked")
            while not state.done:
                self.runner.step([state])
            try:
                outputs = checks.finish(self.runner, state)
            except KomaError as error:
                raise AssertionError(f"marks: {error.message}") from error
            for output in outputs:
                _require(*checks.holds(output))

    def _cancels_finish(self, values: Mapping[str, Any], at: int) -> bool:
        state = self._prepare(values, f"unfinished-{at}")
        while not state.done:
            self.runner.step([state])
        ended = _ends_at(at, partial(self.runner.finish, state))
        left = [path.name for path in state.request.output_dir.rglob("*") if path.is_file()]
        _require(not (ended and left), f"finish was cancelled at beat {at} and left {left}")
        _require(not (at == 1 and left), "finish writes files and never beats")
        return ended

    def _prepare(self, values: Mapping[str, Any], name: str) -> State:
        folder = self.folder / name
        folder.mkdir(parents=True)
        checked = check(self.spec.params, values)
        state = self.runner.prepare(Request(name, self.task, checked, self.inputs, folder))
        _require(state.step == 0, f"prepare returned step {state.step}, not 0")
        _require(state.total >= 0, f"prepare returned a total of {state.total}")
        told = self.spec.steps(checked)
        _require(told == 0 or told >= state.total, f"{told} steps were announced, not {state.total}")
        return state

    def _round(self, jobs: Sequence[_Run], previews: bool) -> None:
        """One forward for each key, as the engine does."""
        groups: dict[Any, list[_Run]] = {}
        for job in jobs:
            groups.setdefault(self.runner.key(job.state), []).append(job)
        for group in groups.values():
            before = [job.state.step for job in group]
            self.runner.step([job.state for job in group])
            for job, old in zip(group, before, strict=True):
                _require(job.state.done or job.state.step > old, f"step {old} did not advance")
                _require(job.state.step <= job.state.total, f"step {job.state.step} of {job.state.total}")
                job.tokens += self.runner.text(job.state)
                if previews and not job.state.done:
                    self._preview(job.state)

    def _preview(self, state: State) -> None:
        made = self.runner.preview(state)
        if callable(made):
            made = made()
        valid = made is None or (isinstance(made, Preview) and bool(made.data) and "/" in made.media_type)
        _require(valid, "a preview needs a media type and data")

    def _finish(self, job: _Run) -> list[Output]:
        outputs = self.runner.finish(job.state)
        _require(0 < len(outputs) <= MAX_OUTPUTS, f"{len(outputs)} outputs")
        folder = job.state.request.output_dir
        for output in outputs:
            declared = self.spec.outputs.get(output.name.rstrip("0123456789").rstrip("_"))
            declared = self.spec.outputs.get(output.name, declared)
            _require(declared == output.media_type, f"the output {output.name} was declared as {declared}")
            one = (output.path is None) != (output.text is None)
            _require(one, f"the output {output.name} needs a path or a text, one of them")
            inside = output.path is None or folder in output.path.parents
            _require(inside, f"the output {output.name} lies outside of the output folder")
        texts = [output.text for output in outputs if output.media_type == "text/plain"]
        _require(not job.tokens or job.tokens in texts or not texts, "the tokens do not add up to the text")
        return outputs


class _Run:
    """One job on its way through the kit."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.tokens = ""


def _ends_at(beat: int, action: Callable[[], object]) -> bool:
    """Run ``action``, which is cancelled at a beat; False where it ends before."""
    beats = 0

    def unwanted() -> bool:
        nonlocal beats
        beats += 1
        return beats >= beat

    try:
        with operation(Pulse(unwanted)):
            action()
    except Cancelled:
        _require(beats == beat, f"cancelled at beat {beat}, it went on to beat {beats}")
        return True
    _require(beats < beat, f"cancelled at beat {beat}, it went on to its end")
    return False


def _depth(value: Any) -> int:
    if isinstance(value, Mapping):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


def _require(holds: bool, promise: str) -> None:
    if not holds:
        raise AssertionError(promise)
