"""The same client for programs without an event loop: every call waits.

The asynchronous client runs in a thread of its own, which also answers heartbeats between calls.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from koma.client.artifacts import Source, Transferred
from koma.client.client import DEFAULT_URL, Client
from koma.client.events import Completed, Event, PipelineCompleted, Preview
from koma.client.handle import Handle
from koma.client.records import Artifact, Job, Model, Verdict

T = TypeVar("T")
Done = TypeVar("Done", bound=Event)


class SyncClient:
    """A blocking client with the options of :class:`~koma.client.client.Client`; a context manager."""

    def __init__(self, url: str = DEFAULT_URL, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="koma-client", daemon=True)
        self._thread.start()
        try:
            self._client = self.wait(_made(lambda: Client(url, **options)))
        except BaseException:
            self._stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and stop the thread; a second call does nothing."""
        if self._thread.is_alive():
            try:
                self.wait(self._client.close())
            finally:
                self._stop()

    def submit(
        self,
        task: str,
        params: Mapping[str, Any] | None = None,
        inputs: Mapping[str, str] | None = None,
        **options: Any,
    ) -> SyncHandle[Completed]:
        """Submit a job; see :meth:`Client.submit` for the options."""
        return SyncHandle(self, self.wait(self._client.submit(task, params, inputs, **options)))

    def attach(self, id: str, after: int = 0) -> SyncHandle[Completed]:
        """Listen to a job that is there already."""
        return SyncHandle(self, self.wait(self._client.attach(id, after)))

    def submit_pipeline(
        self,
        pipeline: str | Sequence[Mapping[str, Any]],
        inputs: Mapping[str, str] | None = None,
        params: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        on_disconnect: str | None = None,
        idempotency_key: str | None = None,
    ) -> SyncHandle[PipelineCompleted]:
        """Run a pipeline by its name or by its stages; see :meth:`Client.submit_pipeline`."""
        submitted = self._client.submit_pipeline(
            pipeline, inputs, params, on_disconnect=on_disconnect, idempotency_key=idempotency_key
        )
        return SyncHandle(self, self.wait(submitted))

    def cancel(self, id: str) -> None:
        """Cancel a job."""
        self.wait(self._client.cancel(id))

    def job(self, id: str) -> Job:
        """Return a job."""
        return self.wait(self._client.job(id))

    def jobs(self) -> list[Job]:
        """Return the jobs that the server knows."""
        return self.wait(self._client.jobs())

    def models(self) -> list[Model]:
        """Return the models that are ready."""
        return self.wait(self._client.models())

    def upload(
        self, source: Source, media_type: str | None = None, progress: Transferred | None = None
    ) -> Artifact:
        """Store a file on the server; ``progress`` is called from the client's thread."""
        return self.wait(self._client.upload(source, media_type, progress))

    def verify(self, source: Source) -> Verdict:
        """Ask whether a file bears marks of a machine."""
        return self.wait(self._client.verify(source))

    def download(self, artifact: str, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write an artifact to a file, whole or not at all."""
        self.wait(self._client.download(artifact, path, overwrite=overwrite))

    def read(self, artifact: str) -> bytes:
        """Return the bytes of an artifact."""
        return self.wait(self._client.read(artifact))

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` in the client's thread and return its result; Ctrl-C stops the work."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class SyncHandle(Generic[Done]):
    """A running job or pipeline; see :class:`~koma.client.handle.Handle`."""

    def __init__(self, client: SyncClient, handle: Handle[Done]) -> None:
        self.id = handle.id
        self._client = client
        self._handle = handle

    def events(self) -> Iterator[Event | Preview]:
        """Yield every event once and in order, the terminal one last."""
        events = self._handle.events()
        while (event := self._client.wait(_next(events))) is not None:
            yield event

    def result(self, timeout: float | None = None) -> Done:
        """Wait for the end and return the completed event; raise a ``WorkError`` where there is no result.

        After ``timeout`` seconds it raises ``TimeoutError``; the work goes on.
        """
        return self._client.wait(asyncio.wait_for(self._handle.result(), timeout))

    def cancel(self) -> None:
        """Ask the server to stop the work."""
        self._client.wait(self._handle.cancel())


async def _made(make: Callable[[], T]) -> T:
    return make()


async def _next(events: Any) -> Event | Preview | None:
    return await anext(events, None)
