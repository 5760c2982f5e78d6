"""A joined topic as the program sees it: a mailbox of typed events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from koma.client.errors import ClientError
from koma.client.events import Event, Preview

Parser = Callable[[str, Mapping[str, Any] | bytes], Event | Preview]


class Topic:
    """Events of one topic in order; of previews that nobody has taken yet only the latest is kept.

    ``parse`` turns a message into an event; without it messages are ignored (a topic for requests only).
    """

    def __init__(self, name: str, parse: Parser | None) -> None:
        self.name = name
        self.response: Mapping[str, Any] = {}
        self.breaks = 0  # rejoins since the last event
        self._parse = parse
        self._items: deque[Event | Preview] = deque()
        self._failure: ClientError | None = None
        self._joined = asyncio.Event()
        self._news = asyncio.Event()

    def joined(self, response: Mapping[str, Any]) -> None:
        """The server accepted the join."""
        self.response = response
        self._joined.set()

    def left(self) -> None:
        """The topic is not joined for now."""
        if self._failure is None:
            self._joined.clear()

    def fail(self, error: ClientError) -> None:
        """End the topic: whoever waits gets ``error``, after the events that are already here."""
        self._failure = self._failure or error
        self._joined.set()
        self._news.set()

    def put(self, event: str, payload: Mapping[str, Any] | bytes) -> None:
        """Take a message from the server."""
        if self._parse is None:
            return
        try:
            item = self._parse(event, payload)
        except ClientError as error:
            self.fail(error)
            return
        self.breaks = 0
        if isinstance(item, Preview):
            self._drop_preview_of(item.stage)
        self._items.append(item)
        self._news.set()

    async def wait_joined(self) -> None:
        """Wait until the topic is joined; raise what ended it."""
        await self._joined.wait()
        if self._failure is not None:
            raise self._failure

    async def get(self) -> Event | Preview:
        """Return the next event; raise what ended the topic once there are no more."""
        while not self._items:
            if self._failure is not None:
                raise self._failure
            self._news.clear()
            await self._news.wait()
        return self._items.popleft()

    def _drop_preview_of(self, stage: str | None) -> None:
        for item in self._items:
            if isinstance(item, Preview) and item.stage == stage:
                self._items.remove(item)
                return
