"""A small least-recently-used cache for tensors that several jobs share."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class Lru(Generic[V]):
    """Keeps the ``size`` values that were used last. Safe to call from several threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: OrderedDict[Hashable, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """Return the value of ``key``, made by ``make`` where it is absent.

        ``make`` runs outside the lock: two threads may make the same value once, none waits for another's.
        """
        found = self.find(key)
        if found is not None:
            return found
        value = make()
        with self._lock:
            self._items[key] = value
            self._items.move_to_end(key)
            while len(self._items) > self._size:
                self._items.popitem(last=False)
        return value

    def find(self, key: Hashable) -> V | None:
        """Return the value of ``key`` if it is there."""
        with self._lock:
            if key not in self._items:
                return None
            self._items.move_to_end(key)
            return self._items[key]

    def __len__(self) -> int:
        return len(self._items)
