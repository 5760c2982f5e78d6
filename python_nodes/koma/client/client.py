"""The client of a Koma server: jobs and pipelines over one WebSocket, artifacts over HTTP.

::

    async with Client() as koma:
        clip = await koma.upload(Path("clip.mp4"))
        job = await koma.submit("video.understand", inputs={"video": clip.id})
        async for event in job.events():
            ...
        print((await job.result()).outputs[0].text)
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit, urlunsplit

from koma.client import artifacts
from koma.client.artifacts import Source, Transferred
from koma.client.connection import Connection, Timing
from koma.client.errors import ConnectionLostError, ProtocolError
from koma.client.events import parse_job_event, parse_pipeline_event
from koma.client.handle import JobHandle, PipelineHandle
from koma.client.http import Http
from koma.client.records import (
    Artifact,
    Job,
    Model,
    ModelNode,
    NodeOrder,
    Pipeline,
    PreviewMode,
    Queue,
    Verdict,
    parse,
)
from koma.client.topic import Topic

DEFAULT_URL = "http://127.0.0.1:4000"
VERSION = "2.0.0"  # of the Phoenix Channels protocol


class Client:
    """An asynchronous client; use it as a context manager, from one event loop.

    ``url`` is the address of the server (``http://`` or ``https://``), ``api_key`` its key where it asks for
    one, ``previews`` how previews travel ("none" for none), ``timing`` the patience.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        previews: PreviewMode = "binary",
        timing: Timing | None = None,
    ) -> None:
        self.url = _checked_url(url)
        self._headers = {"x-api-key": _checked_key(api_key)} if api_key else {}
        self._previews = previews
        self._timing = timing or Timing()
        self._http = Http(self.url, self._headers, self._timing.answer)
        self._connection: Connection | None = None
        self._requests: Topic | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the WebSocket and the HTTP connections."""
        if self._connection is not None:
            await self._connection.close()
        await self._http.close()

    # Jobs and pipelines

    async def submit(
        self,
        task: str,
        params: Mapping[str, Any] | None = None,
        inputs: Mapping[str, str] | None = None,
        *,
        model: str | None = None,
        priority: str | None = None,
        on_disconnect: str | None = None,
        deadline: float | None = None,
        cache: bool | None = None,
        idempotency_key: str | None = None,
    ) -> JobHandle:
        """Submit a job and listen to it; ``inputs`` name artifacts, ``deadline`` is in seconds.

        ``cache`` ``False`` computes anew what the server may have, ``True`` takes a result of any seed.

        A request is made once for each ``idempotency_key``: the same request with the same key is answered
        with the same job, also after a restart of the server. Without one a new key is drawn, so that a
        request whose reply was lost is sent again.

        Raises ``RefusedError`` with the field, value and bound at fault, ``ConnectionLostError`` where the
        connection broke twice before the reply: the job may have been accepted then.
        """
        request = _given(
            task=task,
            params=dict(params) if params is not None else None,
            inputs=dict(inputs) if inputs is not None else None,
            model=model,
            priority=priority,
            on_disconnect=on_disconnect,
            deadline_ms=round(deadline * 1000) if deadline is not None else None,
            cache=cache,
            idempotency_key=idempotency_key or secrets.token_hex(16),
        )
        job = parse(Job, await self._call_again("submit", request))
        return await self.attach(job.id)

    async def attach(self, id: str, after: int = 0) -> JobHandle:
        """Listen to a job that is there already, from the event after sequence number ``after``."""
        topic = await self._join(f"job:{id}", parse_job_event, after)
        handle = JobHandle(id, topic, partial(self.cancel, id), partial(self._leave, topic))
        handle.job = parse(Job, topic.response.get("job"))
        return handle

    async def submit_pipeline(
        self,
        pipeline: str | Sequence[Mapping[str, Any]],
        inputs: Mapping[str, str] | None = None,
        params: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        on_disconnect: str | None = None,
        idempotency_key: str | None = None,
    ) -> PipelineHandle:
        """Run a pipeline: the name of one that the server has (``"story"``), or its stages.

        When nobody follows it any more it is cancelled, unless ``on_disconnect`` is ``"keep"``. The
        ``idempotency_key`` is that of :meth:`submit`.
        """
        request = _given(
            **{"pipeline": pipeline} if isinstance(pipeline, str) else {"stages": list(pipeline)},
            inputs=dict(inputs) if inputs is not None else None,
            params={stage: dict(values) for stage, values in params.items()} if params is not None else None,
            on_disconnect=on_disconnect,
            idempotency_key=idempotency_key or secrets.token_hex(16),
        )
        record = parse(Pipeline, await self._call_again("submit_pipeline", request))
        return await self.attach_pipeline(record.id)

    async def attach_pipeline(self, id: str, after: int = 0) -> PipelineHandle:
        """Listen to a pipeline that is there already."""
        topic = await self._join(f"pipeline:{id}", parse_pipeline_event, after)
        handle = PipelineHandle(id, topic, partial(self.cancel_pipeline, id), partial(self._leave, topic))
        handle.pipeline = parse(Pipeline, topic.response.get("pipeline"))
        return handle

    async def cancel(self, id: str) -> None:
        """Cancel a job; also right for one that has ended."""
        await self._call_again("cancel", {"id": id})

    async def cancel_pipeline(self, id: str) -> None:
        """Cancel a pipeline and the jobs of its stages."""
        await self._call_again("cancel_pipeline", {"id": id})

    async def call(self, event: str, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """Push a request on topic ``jobs`` and return the response as it came."""
        connection = await self._connected()
        assert self._requests is not None
        return await connection.call(self._requests, event, payload)

    # Reading

    async def job(self, id: str) -> Job:
        """Return a job; raises ``RefusedError`` with code ``not_found``."""
        return parse(Job, await self._http.json("GET", f"/v1/jobs/{id}"))

    async def jobs(self) -> list[Job]:
        """Return the jobs that the server knows."""
        return [parse(Job, item) for item in _items(await self._http.json("GET", "/v1/jobs"))]

    async def pipeline(self, id: str) -> Pipeline:
        """Return a pipeline; raises ``RefusedError`` with code ``not_found``."""
        return parse(Pipeline, await self._http.json("GET", f"/v1/pipelines/{id}"))

    async def models(self) -> list[Model]:
        """Return the models that are ready, with the JSON Schemas of their tasks."""
        listed = await self._http.json("GET", "/v1/models")
        models = listed.get("data") if isinstance(listed, dict) else None
        return [parse(Model, item) for item in _items(models)]

    async def ready(self) -> tuple[bool, Any]:
        """Return whether every model node is ready, and what the server says of those missing."""
        status, body = await self._http.status("/health/ready")
        return status == 200, body

    # For operators

    async def nodes(self) -> list[ModelNode]:
        """Return the model nodes; raises ``RefusedError``, code ``forbidden``, for others than operators."""
        return [parse(ModelNode, item) for item in _items(await self._http.json("GET", "/v1/admin/nodes"))]

    async def order_node(self, name: str, order: NodeOrder, checkpoint: str | None = None) -> ModelNode:
        """Have a model node drained, restarted, …; it obeys once its jobs are done. ``load`` takes a name.

        Raises ``RefusedError`` with code ``not_found``, or ``conflict`` where its state does not allow it.
        """
        body = {} if checkpoint is None else {"json": {"checkpoint": checkpoint}}
        path = f"/v1/admin/nodes/{quote(name, safe='')}/{order}"
        return parse(ModelNode, await self._http.json("POST", path, **body))

    async def queues(self) -> list[Queue]:
        """Return the queues, by family."""
        return [parse(Queue, item) for item in _items(await self._http.json("GET", "/v1/admin/queues"))]

    async def pause_queue(self, family: str, paused: bool = True) -> None:
        """Have the jobs of a family wait, or go on; those that run go on in any case."""
        order = "pause" if paused else "resume"
        await self._http.json("POST", f"/v1/admin/queues/{quote(family, safe='')}/{order}")

    # Artifacts

    async def verify(self, source: Source) -> Verdict:
        """Ask whether a file bears marks of a machine: a path, bytes, or a file open for reading bytes."""
        return await artifacts.verify(self._http, source)

    async def upload(
        self, source: Source, media_type: str | None = None, progress: Transferred | None = None
    ) -> Artifact:
        """Store a file on the server, streamed: a path, bytes, or a file that is open for reading bytes.

        See :func:`koma.client.artifacts.upload`.
        """
        return await artifacts.upload(self._http, source, media_type, progress, self._upload_limit)

    async def _upload_limit(self) -> int | None:
        await self._connected()
        assert self._requests is not None
        limits = self._requests.response.get("limits")
        bound = limits.get("upload_bytes") if isinstance(limits, Mapping) else None
        return bound if isinstance(bound, int) else None

    async def download(
        self,
        artifact: str,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        progress: Transferred | None = None,
    ) -> None:
        """Write an artifact to a file, whole or not at all; see :func:`koma.client.artifacts.download`."""
        await artifacts.download(self._http, artifact, Path(path), overwrite=overwrite, progress=progress)

    async def read(self, artifact: str) -> bytes:
        """Return the bytes of an artifact."""
        return await artifacts.read(self._http, artifact)

    async def _connected(self) -> Connection:
        async with self._opening:
            if self._connection is None or self._connection.failed:
                connection = Connection(_socket_url(self.url), self._headers, self._timing)
                await connection.open()
                try:
                    self._requests = await connection.subscribe("jobs", {}, None)
                except BaseException:
                    await connection.close()
                    raise
                self._connection = connection
        return self._connection

    async def _join(self, name: str, parser: Any, after: int) -> Topic:
        connection = await self._connected()
        params = {"previews": self._previews}
        return await connection.subscribe(name, params, parser, after=after)

    async def _leave(self, topic: Topic) -> None:
        if self._connection is not None:
            await self._connection.unsubscribe(topic.name)

    async def _call_again(self, event: str, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """Push a request that may be made twice, once more where the connection broke before the reply."""
        try:
            return await self.call(event, payload)
        except ConnectionLostError:
            return await self.call(event, payload)


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _items(body: Any) -> list[Any]:
    if not isinstance(body, list):
        raise ProtocolError(f"the server answered with {type(body).__name__} where a list belongs")
    return body


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"the server's address must look like {DEFAULT_URL}, not {url!r}")
    return url.rstrip("/")


def _checked_key(key: str) -> str:
    # Not repeated in the message: it may be right but for one character.
    if not all("!" <= character <= "~" for character in key):
        raise ValueError("the API key holds a space or another character that no key has")
    return key


def _socket_url(url: str) -> str:
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}[parts.scheme]
    return urlunsplit((scheme, parts.netloc, f"{parts.path}/socket/websocket", f"vsn={VERSION}", ""))
