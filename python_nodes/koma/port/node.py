"""A model node: reads messages on one thread, runs the engine on the main one."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Mapping
from queue import SimpleQueue
from typing import Any

from koma.errors import KomaError
from koma.models import registry
from koma.port.connection import Connection
from koma.port.messages import (
    Cancel,
    Count,
    Counted,
    Drain,
    Failed,
    GatewayMessage,
    Hello,
    Load,
    NodeMessage,
    Ping,
    Pong,
    Preview,
    Submit,
    Unload,
)
from koma.port.pipes import Pipes
from koma.port.process import EX_DATAERR, EX_OK, EX_SOFTWARE, set_name
from koma.port.readiness import empty, loaded
from koma.provenance import opening
from koma.provenance.stamp import Marks
from koma.runtime.engine import Engine
from koma.runtime.failures import NodeBroken, failed, to_error
from koma.runtime.runner import Runner

GRACE_S = 1.0
"""How long a running step may hold up the end of the process once the gateway is gone."""

_log = logging.getLogger(__name__)


class Node:
    """Owns the connection and, while a checkpoint is loaded, the engine."""

    def __init__(self, pipes: Pipes) -> None:
        self._pipes = pipes
        self._connection = Connection()
        self._commands: SimpleQueue[Load | Unload | Drain | None] = SimpleQueue()
        self._engine: Engine | None = None
        self._ended = threading.Event()
        self._end_code = EX_OK

    def run(self) -> int:
        """Serve until drained, broken or alone; returns the exit code."""
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        try:
            code = self._obey()
            self._flush()
        finally:
            self._ended.set()
        return code

    def drain(self) -> None:
        """Finish what runs, then end. May be called by a signal handler."""
        self._command(Drain())

    def send(self, message: NodeMessage) -> None:
        """Send a message, from any thread. One that is too large becomes a failure of its job, a preview is
        dropped."""
        try:
            data = self._connection.send(message)
        except KomaError as error:
            if isinstance(message, Preview):
                return
            data = self._connection.send(failed(getattr(message, "id", None) or "", error))
        try:
            self._pipes.write(data)
        except OSError:
            os._exit(EX_OK)  # the gateway is gone: there is nobody left to work for

    def _flush(self) -> None:
        """Another thread may be about to write the last messages: it ends with the process."""
        with contextlib.suppress(OSError):
            self._pipes.flush()

    # The reader's thread.

    def _read(self) -> None:
        code = EX_OK
        try:
            while data := self._pipes.read():
                self._connection.feed(data)
                with self._pipes.together():
                    while (message := self._connection.next_message()) is not None:
                        self._receive(message)
            self._connection.end()
        except KomaError as error:
            code = EX_DATAERR
            self._complain(error)
        self._end(code)

    def _complain(self, error: KomaError) -> None:
        _log.error("the gateway broke the protocol: %s", error.message)
        if error.code == "protocol_mismatch":
            self.send(failed("", error, "node"))

    def _end(self, code: int) -> None:
        """End the process from the reader's thread: at the next step, or soon where that takes long."""
        self._end_code = code
        engine = self._engine
        self._commands.put(None)
        if engine is not None:
            engine.stop()
        if not self._ended.wait(GRACE_S):
            os._exit(code)

    def _receive(self, message: GatewayMessage) -> None:
        engine = self._engine
        match message:
            case Ping(seq):
                self.send(Pong(seq, 0 if engine is None else engine.busy_ms()))
            case Submit():
                self._submit(message, engine)
            case Cancel(id):
                if engine is not None:
                    engine.cancel(id)
            case Count():
                self.send(Counted(message.id, _counted(message, engine)))
            case Load() | Unload() | Drain():
                self._command(message)
            case Hello():
                self.send(empty(None))

    def _submit(self, message: Submit, engine: Engine | None) -> None:
        if engine is None:
            error = KomaError("unavailable", "the model node has no checkpoint loaded")
            self.send(failed(message.id, error))
        else:
            engine.submit(message)

    def _command(self, command: Load | Unload | Drain) -> None:
        """Leave a command to the main thread, and have the engine come to an end for it."""
        self._commands.put(command)
        if self._engine is not None:
            self._engine.drain()

    # The main thread.

    def _obey(self) -> int:
        while (command := self._commands.get()) is not None:
            match command:
                case Drain():
                    return EX_OK
                case Unload(id):
                    self.send(empty(id))
                case Load() if not self._serve(command):
                    return EX_SOFTWARE
        return self._end_code

    def _serve(self, load: Load) -> bool:
        """Load a checkpoint and run its jobs until the next command; False where the node is broken."""
        opened = self._load(load)
        if opened is None:
            return False
        runner, marks = opened
        self._engine = engine = Engine(
            runner, load.slots, self.send, together=self._pipes.together, marks=marks
        )
        self.send(loaded(load, runner))
        if not self._commands.empty():  # it came while the checkpoint was loading
            engine.drain()
        try:
            engine.run()
        except NodeBroken as error:
            self.send(Failed("", "node", "model_failed", str(error)))
            return False
        finally:
            self._engine = None
        return True

    def _load(self, load: Load) -> tuple[Runner, Marks] | None:
        try:
            runner = registry.load(
                load.family, load.checkpoint, load.device, load.dtype, load.slots, load.options
            )
            marks = opening.open_for(runner)
        except (Exception, SystemExit) as error:
            _log.error("%s could not be loaded from %s", load.family, load.checkpoint, exc_info=error)
            told = (
                error if isinstance(error, KomaError) else KomaError("load_failed", to_error(error).message)
            )
            self.send(failed(load.id, told, "node"))
            return None
        set_name(f"koma:{load.family}")
        return runner, marks


def _counted(message: Count, engine: Engine | None) -> Mapping[str, Any]:
    """What the reader's thread answers without the engine's; it must outlive whatever a tokenizer raises."""
    if engine is None:
        return {}
    try:
        return engine.count(message.task, message.params)
    except Exception as error:
        _log.error("the tokens of a prompt could not be counted", exc_info=error)
        return {}
