"""A running job or pipeline in the hands of the program: its events, its result, and cancel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Generic, Self, TypeVar, cast

from koma.client.errors import (
    CancelledError,
    ExpiredError,
    FailedError,
    ProtocolError,
    WorkError,
)
from koma.client.events import (
    Cancelled,
    Completed,
    Event,
    Expired,
    Failed,
    PipelineCompleted,
    Preview,
    terminal,
)
from koma.client.records import Job, Pipeline
from koma.client.topic import Topic

Done = TypeVar("Done", bound=Event)
FAILURES: dict[type[Event], type[WorkError]] = {
    Failed: FailedError,
    Cancelled: CancelledError,
    Expired: ExpiredError,
}


class Handle(Generic[Done]):
    """Events come from one stream: take them with :meth:`events`, or let :meth:`result` run through them."""

    def __init__(
        self,
        id: str,
        topic: Topic,
        cancel: Callable[[], Awaitable[None]],
        leave: Callable[[], Awaitable[None]],
    ) -> None:
        self.id = id
        self._topic = topic
        self._cancel = cancel
        self._leave = leave
        self._end: Event | None = None

    async def events(self) -> AsyncIterator[Event | Preview]:
        """Yield every event once and in order, over reconnects too, and the terminal one last.

        Raises ``ServerUnreachableError`` when the server stays away, ``RefusedError`` when it no longer
        knows the job. A failed job raises nothing here: its last event is ``Failed``.
        """
        while self._end is None:
            event = await self._topic.get()
            if isinstance(event, Event) and terminal(event):
                self._end = event
                await self._leave()
            yield event

    async def result(self) -> Done:
        """Wait for the end and return the completed event; raise a ``WorkError`` where there is no result."""
        async for _ in self.events():
            pass
        return self._outcome()

    async def cancel(self) -> None:
        """Ask the server to stop the work; also right for work that has ended."""
        await self._cancel()

    async def close(self) -> None:
        """Listen no longer; what happens to the job then is said by its ``on_disconnect``."""
        await self._leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _outcome(self) -> Done:
        end = self._end
        if isinstance(end, Completed | PipelineCompleted):
            return cast(Done, end)
        if end is None:
            raise ProtocolError(f"{self.id} ended without a terminal event")
        stage = end.stage if isinstance(end, Failed) else None
        raise FAILURES[type(end)](self.id, end.model_dump(), stage)


class JobHandle(Handle[Completed]):
    """A job; ``job`` is its record when the handle was made."""

    job: Job


class PipelineHandle(Handle[PipelineCompleted]):
    """A pipeline; ``pipeline`` is its record when the handle was made."""

    pipeline: Pipeline
