"""What was promised and what was told: every accepted job, to its end; and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.soak.work import EXACT, Work, result

from koma.client import Cancelled, Completed, Event, PipelineCompleted, Retrying, StageEvent
from koma.client.events import terminal


@dataclass(slots=True)
class Story:
    """One accepted job or pipeline as a client heard of it; ``cancelled`` once somebody asked for that."""

    id: str
    work: Work
    cancelled: bool = False
    seq: int = 0
    retries: int = 0
    end: Event | None = None


@dataclass(slots=True)
class Ledger:
    """All stories, and the promises that were broken."""

    undisturbed: dict[Work, tuple[str, ...]] = field(default_factory=dict)
    open: dict[str, Story] = field(default_factory=dict)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    elsewhere: int = 0
    unknown: int = 0
    broken: list[str] = field(default_factory=list)

    def accept(self, id: str, work: Work) -> Story:
        """A server told the id of a job: from now on it owes an answer."""
        if id in self.open:
            self.breach(f"{id} was given to two requests")
        story = self.open[id] = Story(id, work)
        self.counts[work.kind, "accepted"] += 1
        return story

    def tell(self, story: Story, event: Event) -> None:
        """A client was told an event."""
        if story.end is not None:
            self.breach(f"{story.id} was told {event.seq} after its end")
        if event.seq != story.seq + 1:
            self.breach(f"{story.id} was told {event.seq} after {story.seq}")
        story.seq = event.seq
        told = event.event if isinstance(event, StageEvent) else event
        story.retries += isinstance(told, Retrying)
        if terminal(event):
            story.end = event
            self._ended(story, event)

    def lost(self, story: Story, why: str) -> None:
        """A job was not answered."""
        self.open.pop(story.id, None)
        self.breach(f"{story.id} ({story.work.kind}) was not answered: {why}")

    def breach(self, what: str) -> None:
        """A promise was broken."""
        self.broken.append(what)

    def _ended(self, story: Story, end: Event) -> None:
        del self.open[story.id]
        kind = story.work.kind
        self.counts[kind, type(end).__name__.lower().removeprefix("pipeline")] += 1
        self.counts[kind, "run again"] += story.retries
        match end:
            case Completed() | PipelineCompleted():
                self._compare(story, result(end))
            case Cancelled() if story.cancelled:
                pass
            case _:
                self.breach(f"{story.id} ({kind}) ended so: {end!r}")

    def _compare(self, story: Story, made: tuple[str, ...]) -> None:
        expected = self.undisturbed.setdefault(story.work, made)
        if made == expected:
            self.counts[story.work.kind, "as undisturbed"] += 1
        elif story.work.kind in EXACT:
            self.breach(f"{story.id} ({story.work}) made {made}, undisturbed {expected}")
