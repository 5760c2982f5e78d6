"""Clients that ask over and over, follow each job to its end, and go elsewhere when their peer is gone."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import httpx
from tests.soak.cluster import KEY, Peer
from tests.soak.ledger import Ledger, Story
from tests.soak.work import ALL, CALLERS, Work, some

from koma.client import (
    CallTimeoutError,
    Client,
    ClientError,
    ConnectionLostError,
    Event,
    JobHandle,
    PipelineHandle,
    RefusedError,
    ServerUnreachableError,
    Timing,
)

HASTY = Timing(answer=15, heartbeat=5, connect=5, reconnect_for=2, longest_delay=1)
SHARED = 0.2
PATIENCE = 400.0  # seconds until an accepted job counts as lost
CLIP = Path(__file__).parents[2] / "priv/demo/input.mp4"
# What a server may answer while something is broken.
EXCUSED = {"unavailable", "draining", "overloaded", "rate_limited"}


class Caller:
    """One client of each peer."""

    def __init__(self, peers: Sequence[Peer], ledger: Ledger) -> None:
        self._ledger = ledger
        self._clients = [Client(peer.url, api_key=KEY, timing=HASTY) for peer in peers]
        self._http = httpx.AsyncClient(headers={"x-api-key": KEY}, timeout=10)
        self._clip = ""

    async def close(self) -> None:
        """Close the clients."""
        for client in self._clients:
            with suppress(ClientError):
                await client.close()
        await self._http.aclose()

    async def for_ever(self, kind: str) -> None:
        """Ask for jobs of a kind, one after the other; every other one of any peer."""
        while True:
            if (story := await self.submit(some(kind))) is not None:
                await self.follow(story)

    async def undisturbed(self) -> None:
        """Ask for everything once, of the first peer, before anything is disturbed."""
        for work in ALL:
            # Kept, so that the results that later requests may share are all there.
            story = await self.submit(work, self._clients[0], shared=1.0)
            assert story is not None, "a peer at rest refuses a job"
            await self.follow(story)

    async def submit(self, work: Work, client: Client | None = None, shared: float = SHARED) -> Story | None:
        """Ask for a job of a peer by chance; None if it was refused, or its answer was lost.

        A share of the requests may be answered with the result of another one.
        """
        client = client or random.choice(self._clients)
        try:
            return await self._submit(work, client, random.random() < shared)
        except RefusedError as error:
            self._ledger.refusals[error.code] += 1
            if error.code not in EXCUSED:
                self._ledger.breach(f"a job was refused: {error.describe()}")
        except ServerUnreachableError:
            self._ledger.refusals["(unreachable)"] += 1
        except (ConnectionLostError, CallTimeoutError):
            self._ledger.unknown += 1
        await asyncio.sleep(random.uniform(0.2, 1.0))
        return None

    async def _submit(self, work: Work, client: Client, shared: bool) -> Story:
        if work.needs_clip and not self._clip:
            self._clip = (await client.upload(CLIP)).id
        request = work.request(self._clip)
        if work.pipeline:
            accepted = await client.call("submit_pipeline", request)
        else:
            accepted = await client.call("submit", request if shared else {**request, "cache": False})
        return self._ledger.accept(str(accepted["id"]), work)

    async def follow(self, story: Story) -> None:
        """Follow a job to its end, on whichever peer answers."""
        give_up = time.monotonic() + PATIENCE
        clients = random.sample(self._clients, len(self._clients))
        why: ClientError | None = None
        while story.end is None and time.monotonic() < give_up:
            try:
                await self._listen(story, clients[0], give_up)
            except (ClientError, TimeoutError) as error:
                why = error if isinstance(error, ClientError) else why
                self._ledger.elsewhere += 1
                clients.reverse()
                await asyncio.sleep(random.uniform(0.2, 1.0))
        if story.end is None:
            self._ledger.lost(story, f"{why!r}")
            return
        with suppress(ClientError, TimeoutError):
            await self._ask_again(story, clients[-1])
        if not story.work.pipeline:
            await forget(self._http, random.choice(self._clients).url, story.id)

    async def _ask_again(self, story: Story, client: Client) -> None:
        """Whoever asks later, and elsewhere, is told the same story with the same end."""
        async with asyncio.timeout(HASTY.answer), await _attach(client, story) as handle:
            told = [event async for event in handle.events() if isinstance(event, Event)]
        if [event.seq for event in told] != list(range(1, story.seq + 1)):
            self._ledger.breach(f"{story.id} is told as {told!r} later")
        elif told[-1] != story.end:
            self._ledger.breach(f"{story.id} ended as {story.end!r}, and later as {told[-1]!r}")

    async def _listen(self, story: Story, client: Client, give_up: float) -> None:
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + give_up - time.monotonic()):
            async with await _attach(client, story, after=story.seq) as handle:
                async for event in handle.events():
                    if isinstance(event, Event):
                        self._ledger.tell(story, event)

    async def cancel(self, story: Story) -> None:
        """Cancel a job on a peer by chance, if it answers."""
        story.cancelled = True
        with suppress(ClientError):
            await random.choice(self._clients).cancel(story.id)


async def _attach(client: Client, story: Story, after: int = 0) -> JobHandle | PipelineHandle:
    attach = client.attach_pipeline if story.work.pipeline else client.attach
    return await attach(story.id, after)


async def forget(http: httpx.AsyncClient, url: str, id: str) -> None:
    """Have a job that has ended forgotten, if the peer answers: so nothing piles up that is no leak."""
    with suppress(httpx.HTTPError):
        await http.delete(f"{url}/v1/jobs/{id}", params={"forget": "true"})


class Load:
    """All callers: they ask until they are told to pause."""

    def __init__(self, peers: Sequence[Peer], ledger: Ledger) -> None:
        self._peers = peers
        self._ledger = ledger
        self._callers: list[Caller] = []
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Let them ask."""
        for kind, count in CALLERS.items():
            for _ in range(count):
                caller = Caller(self._peers, self._ledger)
                self._callers.append(caller)
                self._tasks.append(asyncio.create_task(caller.for_ever(kind)))

    async def pause(self) -> None:
        """Let nobody ask any more; returns when every accepted job was answered, and all have left."""
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        for error in ended:
            if error is not None and not isinstance(error, asyncio.CancelledError):
                raise error
        caller = Caller(self._peers, self._ledger)
        await asyncio.gather(*(caller.follow(story) for story in list(self._ledger.open.values())))
        for each in [*self._callers, caller]:
            await each.close()
        self._callers, self._tasks = [], []
