"""From a command's options to an exit code: run a job or pipeline, show it, cancel it on Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import typer

from koma.cli.display import Display, emit
from koma.cli.exits import Exit, exit_code
from koma.cli.options import Common
from koma.client import (
    Client,
    ClientError,
    CodedError,
    Event,
    JobHandle,
    PipelineHandle,
    Preview,
    Progress,
    StageEvent,
)
from koma.client.events import Completed
from koma.client.files import write_atomic

T = TypeVar("T")
H = TypeVar("H", JobHandle, PipelineHandle)
HINTS = {"unauthorized": "; give a key with --api-key or KOMA_API_KEY"}
CANCEL_GRACE = 5.0  # seconds to wait for the server to say that a job is cancelled
SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "video/mp4": ".mp4"}


def run(work: Coroutine[Any, Any, T], common: Common) -> T:
    """Run a command's work; an error becomes a message and the exit code that tells it.

    SIGINT and SIGTERM cancel the work, which cancels its job on the server; the second one ends at once.
    """
    stopped_by: list[signal.Signals] = []
    try:
        return asyncio.run(_with_signals(work, stopped_by))
    except asyncio.CancelledError:
        code = Exit.TERMINATED if signal.SIGTERM in stopped_by else Exit.CANCELLED
        report(common, {"code": "cancelled", "message": "cancelled"}, "cancelled", code)
        raise typer.Exit(code) from None
    except CodedError as error:
        message = f"{error}{HINTS.get(error.code, '')}"
        raise _told(common, error.as_dict(), message, exit_code(error)) from error
    except ClientError as error:
        code = exit_code(error)
        raise _told(common, {"code": "unreachable", "message": str(error)}, str(error), code) from error
    except OSError as error:
        message = f"{error.filename or 'output'}: {error.strerror or error}"
        raise _told(common, {"code": "output", "message": message}, message, Exit.OUTPUT) from error


def report(common: Common, error: dict[str, Any], message: str, code: Exit) -> None:
    """Tell an error: the last JSON line, or a line on stderr."""
    if common.json:
        emit({"event": "error", **error, "exit": int(code)})
    else:
        print(f"koma: {message}", file=sys.stderr)


async def started(submission: Coroutine[Any, Any, H]) -> H:
    """Return the handle of a job just submitted; one that is accepted after a Ctrl-C is cancelled."""
    task = asyncio.ensure_future(submission)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(ClientError, TimeoutError):
            async with asyncio.timeout(CANCEL_GRACE):
                await (await task).cancel()
        raise


async def follow(
    handle: JobHandle | PipelineHandle, stage: str, display: Display, previews: Path | None
) -> None:
    """Show every event until the end; when this is cancelled, cancel on the server and wait for its word."""
    warned: set[str] = set()
    try:
        async for event in handle.events():
            show_event(event, stage, display, previews)
            for warning in warnings_of(event, stage) - warned:
                display.note(warning)
                warned.add(warning)
    except asyncio.CancelledError:
        display.note("cancelling on the server; once more to leave at once")
        with suppress(ClientError, TimeoutError):
            async with asyncio.timeout(CANCEL_GRACE):
                await handle.cancel()
                async for event in handle.events():
                    show_event(event, stage, display, None)
        raise


async def show_notices(client: Client, display: Display, tasks: set[str]) -> None:
    """Tell what the server says of the models that serve these tasks, e.g. that they are untrained."""
    for model in await client.models():
        if model.notice and tasks & set(model.tasks):
            display.note(f"{model.family}: {model.notice}")


def show_event(event: Event | Preview, stage: str, display: Display, previews: Path | None) -> None:
    """Show one event; in a pipeline under the name of its stage."""
    match event:
        case Preview():
            name = event.stage or stage
            display.preview(name, event, _write_preview(name, event, previews))
        case StageEvent(stage=name, event=inner):
            display.event(name, inner)
        case _:
            display.event(stage, event)


def warnings_of(event: Event | Preview, stage: str) -> set[str]:
    """Return what an event tells of prompts that the model does not read whole: while it runs, or with a
    result that was there already."""
    match event:
        case StageEvent(stage=name, event=inner):
            return warnings_of(inner, name)
        case Progress(prompts=dict() as prompts):
            notice = " ".join(reading["notice"] for reading in prompts.values() if "notice" in reading)
        case Completed(outputs=(first, *_)):
            notice = str((first.meta or {}).get("notice", ""))
        case _:
            notice = ""
    return {f"warning: {stage}: {notice}"} if notice else set()


def _write_preview(stage: str, preview: Preview, folder: Path | None) -> Path | None:
    if folder is None:
        return None
    path = folder / f"{stage}-{preview.step:03d}{SUFFIXES.get(preview.media_type, '.bin')}"
    write_atomic(path, preview.data, overwrite=True)
    return path


async def _with_signals(work: Coroutine[Any, Any, T], stopped_by: list[signal.Signals]) -> T:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        if stopped_by:
            os._exit(Exit.CANCELLED)
        stopped_by.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    return await task


def _told(common: Common, error: dict[str, Any], message: str, code: Exit) -> typer.Exit:
    report(common, error, message, code)
    return typer.Exit(code)
