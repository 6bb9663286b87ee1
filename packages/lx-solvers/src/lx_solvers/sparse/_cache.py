"""The cache of analyses and factors on the host, bounded by bytes.

Analyses and factors are found again by a digest of what they were made from, and made
again where they have been dropped: nothing is lost but time.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

_DEFAULT = 2 * 2**30


class CacheInfo(NamedTuple):
    """What the cache holds, and how often it was of use."""

    hits: int
    misses: int
    dropped: int
    items: int
    bytes: int
    max_bytes: int


class SparseCache:
    """The analyses and factors of the sparse direct solvers, on the host.

    There is one, `sparse_cache`. When it is full, what was used least recently is
    dropped; the newest item is kept even if it alone exceeds the bound. What was
    dropped is computed again when a state asks for it.

    ```python
    lx.sparse_cache.info()  # hits, misses, bytes, …
    lx.sparse_cache.resize(8 * 2**30)
    lx.sparse_cache.clear()
    ```
    """

    def __init__(self, max_bytes: int = _DEFAULT):
        self._max_bytes = max_bytes
        self._items: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._bytes = self._hits = self._misses = self._dropped = 0
        self._unlock()

    def _unlock(self) -> None:
        self._making: dict[Any, threading.Lock] = {}
        self._lock = threading.Lock()

    def info(self) -> CacheInfo:
        """Hits, misses, items dropped for lack of room, items held, their bytes, and
        the bound."""
        with self._lock:
            return CacheInfo(
                self._hits,
                self._misses,
                self._dropped,
                len(self._items),
                self._bytes,
                self._max_bytes,
            )

    def clear(self) -> None:
        """Drop all items, and count from zero."""
        with self._lock:
            self._items.clear()
            self._bytes = self._hits = self._misses = self._dropped = 0

    def resize(self, max_bytes: int) -> None:
        """Set the bound, which is 2 GiB by default.

        Args:
            max_bytes: the most memory to take, of at least 0.
        """
        if not max_bytes >= 0:
            raise ValueError(
                f"`max_bytes` must be a number of bytes of at least 0, but got "
                f"{max_bytes!r}."
            )
        with self._lock:
            self._max_bytes = int(max_bytes)
            self._shrink()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """The item of this key, made by one thread while others that ask for the same
        wait. It has an attribute `nbytes`."""
        found = self._find(key)
        if found is not None:
            return found
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            found = self._find(key)  # another thread may have made it
            if found is None:
                try:
                    found = make()
                    self.put(key, found)
                finally:
                    with self._lock:
                        self._making.pop(key, None)
                        self._misses += 1
        return found

    def _find(self, key: Any) -> Any:
        with self._lock:
            if key not in self._items:
                return None
            self._items.move_to_end(key)
            self._hits += 1
            return self._items[key][0]

    def peek(self, key: Any) -> Any:
        """The item of this key, or None, without counting."""
        with self._lock:
            return self._items.get(key, (None, 0))[0]

    def put(self, key: Any, item: Any) -> None:
        """Keep an item, in place of one of the same key."""
        with self._lock:
            if key in self._items:
                self._bytes -= self._items.pop(key)[1]
            self._items[key] = item, int(item.nbytes)
            self._bytes += int(item.nbytes)
            self._shrink()

    def _shrink(self) -> None:
        while self._bytes > self._max_bytes and len(self._items) > 1:
            _, (_, size) = self._items.popitem(last=False)
            self._bytes -= size
            self._dropped += 1


sparse_cache = SparseCache()
"""Holds the analyses and factors of the sparse direct solvers."""

if hasattr(os, "register_at_fork"):
    # of the threads that held locks, a forked process has none
    os.register_at_fork(after_in_child=sparse_cache._unlock)
