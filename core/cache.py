"""Values that are kept because making them is expensive: in Redis if `CACHE_URL` is set, else in the process.

Each value is made from the data of one owner, such as the runs of an experiment, and `drop` drops all values of that
owner. Redis drops them for all processes. The cache of a process does not learn what other processes write, and keeps
only values that may be late. docs/caching.md lists what is cached.

An owner has a random generation in the cache. `drop` deletes it, and the next reader stores another one. A value is
signed together with the generation that was read before the value was made. So a reader never finds a value that was
made before a drop, even if it was stored afterwards. Neither does it find what another release has stored, or anyone
without `SECRET_KEY`.

Nothing here raises an error of Redis, or waits for longer than its time limit. While Redis is away, values are made.
"""

import hashlib
import hmac
import logging
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Generic, TypeAlias, TypeVar

import orjson
from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache

from core.api.responses import json_of
from core.keys import digests_by_secret
from core.metrics import CACHE_FAILURES, count_look_up

log = logging.getLogger(__name__)

Owner: TypeAlias = uuid.UUID
T = TypeVar("T")
R = TypeVar("R")
# The lifetime of a value in Redis: the longest time for which it is late if the drop after a write fails.
SECONDS = 60
GENERATION_SECONDS = 3600
GENERATION_BYTES = SIGNATURE_BYTES = 16
# Larger values are not kept: reading one takes too long.
MAX_BYTES = 100_000
# The seconds from a failure of the cache to the next attempt.
AWAY_SECONDS = 2.0
# The most drops to repeat once the cache is back. The values of further ones end with their lifetime.
MAX_MISSED = 10_000
PROBE = "probe"


class PlainSerializer:
    """Leaves bytes as they are in Redis. Django's own serializer would load pickles, which can run any code."""

    def dumps(self, value: bytes) -> bytes:
        """Return the bytes to store."""
        return value

    def loads(self, stored: bytes) -> bytes:
        """Return the bytes that are stored."""
        return stored


class Store:
    """Django's cache, which is away for `AWAY_SECONDS` after a failure. Then one operation tries again.

    The other operations do nothing while the cache is away, so that no request waits for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_away = False
        self._try_at = self._read_at = 0.0
        self._missed: set[str] = set()

    def read(self, keys: Sequence[str]) -> dict[str, bytes] | None:
        """Return the values that are stored; None while the cache is away, and for some seconds after that."""
        found = self._attempt(lambda: self._cache.get_many(keys))
        return found if time.monotonic() >= self._read_at else None

    def write(self, values: Mapping[str, bytes], seconds: int) -> None:
        """Store values."""
        self._attempt(lambda: self._cache.set_many(dict(values), seconds))

    def delete(self, key: str) -> None:
        """Delete a value. If the cache is away, do so before it is used again."""

        def deleted() -> bool:
            self._cache.delete_many([key])
            return True

        # The cache may come back between an attempt and the note to repeat it.
        for _ in range(2):
            if self._attempt(deleted) or self._deletes_later(key):
                return

    def problem(self) -> str | None:
        """Ask the cache, also while it is away. Return why it does not respond, or None."""
        try:
            if self._is_away:
                self._return()
            else:
                self._cache.get_many([PROBE])
        except Exception as error:  # noqa: BLE001 - as in `_attempt`
            self._leave(error)
            return str(error)
        return None

    @property
    def _cache(self) -> BaseCache:
        return caches["default"]

    def _attempt(self, operation: Callable[[], R]) -> R | None:
        """Return the result of an operation; None if it fails, and while the cache is away."""
        if self._is_away and not self._may_try():
            CACHE_FAILURES.inc()
            return None
        try:
            if self._is_away:
                self._return()
            return operation()
        except Exception as error:  # noqa: BLE001 - a broken server may respond anything, and no request may fail of it
            self._leave(error)
            return None

    def _may_try(self) -> bool:
        with self._lock:
            now = time.monotonic()
            is_due = now >= self._try_at
            if is_due:
                self._try_at = now + AWAY_SECONDS
            return is_due

    def _leave(self, error: Exception) -> None:
        CACHE_FAILURES.inc()
        with self._lock:
            was_away, self._is_away = self._is_away, True
            self._try_at = time.monotonic() + AWAY_SECONDS
        if not was_away:
            log.warning("The cache does not respond, and the service works on without it, slower: %s", error)

    def _return(self) -> None:
        """Use the cache again, after the deletions that it has missed. Raises its error if it is still away."""
        # A server may let clients read and refuse writes, deletions too.
        self._cache.set(PROBE, b"", SECONDS)
        # Other processes come back later, with deletions that they have missed.
        self._read_at = time.monotonic() + 2 * AWAY_SECONDS
        while missed := self._taken():
            try:
                self._cache.delete_many(missed)
            except Exception:
                with self._lock:
                    self._missed |= missed
                raise
        log.info("The cache responds again.")

    def _taken(self) -> set[str]:
        """Take the missed deletions. If there are none, the cache is back."""
        with self._lock:
            missed, self._missed = self._missed, set()
            self._is_away = bool(missed)
        return missed

    def _deletes_later(self, key: str) -> bool:
        with self._lock:
            if self._is_away and len(self._missed) < MAX_MISSED:
                self._missed.add(key)
            return self._is_away


store = Store()


class Cached(Generic[T]):
    """Values of one kind, made from the data of their owners.

    `encode` makes JSON of a value, and `decode` the value again. Without Redis, values are kept for `late_seconds`:
    for so long they may miss what other processes write. With 0, they are not kept.
    """

    def __init__(
        self, name: str, encode: Callable[[T], Any], decode: Callable[[Any], T], *, late_seconds: int = 0
    ) -> None:
        self.name, self.encode, self.decode, self.late_seconds = name, encode, decode, late_seconds

    def get(self, owner: Owner, make: Callable[[], T], detail: str = "") -> T:
        """Return the value of an owner, made if it is not cached. `detail` tells values of one owner apart."""
        return self.get_many([owner], lambda _: {owner: make()}, detail)[owner]

    def get_many(
        self,
        owners: Sequence[Owner],
        make: Callable[[Sequence[Owner]], Mapping[Owner, T]],
        detail: str = "",
    ) -> dict[Owner, T]:
        """Return the values of several owners in their order. `make` makes all that are not cached at once."""
        seconds = SECONDS if settings.CACHE_URL else self.late_seconds
        if not (seconds and owners):
            return dict(make(owners))
        generations, found = self._read(owners, detail)
        missing = [owner for owner in owners if owner not in found]
        for owner in owners:
            count_look_up(self.name, is_hit=owner in found)
        if missing:
            made = make(missing)
            self._write(made, generations, detail, seconds)
            found |= made
        return {owner: found[owner] for owner in owners}

    def _read(self, owners: Sequence[Owner], detail: str) -> tuple[dict[Owner, bytes], dict[Owner, T]]:
        """Return the generations and the values of the owners. While the cache is away, there are none."""
        keys = {owner: (generation_key(owner), self._key(owner, detail)) for owner in owners}
        stored = store.read([key for both in keys.values() for key in both])
        if stored is None:
            return {}, {}
        generations: dict[Owner, bytes] = {}
        values: dict[Owner, T] = {}
        new: dict[str, bytes] = {}
        for owner, (generation_of, key) in keys.items():
            generation = stored.get(generation_of, b"")
            if len(generation) != GENERATION_BYTES:
                generation = new[generation_of] = secrets.token_bytes(GENERATION_BYTES)
            elif (content := content_of(stored.get(key, b""), generation, key)) is not None:
                values[owner] = self.decode(orjson.loads(content))
            generations[owner] = generation
        if new:
            store.write(new, GENERATION_SECONDS)
        return generations, values

    def _write(self, made: Mapping[Owner, T], generations: Mapping[Owner, bytes], detail: str, seconds: int) -> None:
        values: dict[str, bytes] = {}
        for owner, generation in generations.items():
            if owner in made:
                key, content = self._key(owner, detail), json_of(self.encode(made[owner]))
                if len(content) <= MAX_BYTES:
                    values[key] = signature(content, generation, key) + content
        if values:
            store.write(values, seconds)

    def _key(self, owner: Owner, detail: str) -> str:
        return f"{self.name}:{owner.hex}:{detail}"


def drop(owner: Owner) -> None:
    """Drop all values of an owner, after a write of its data is stored."""
    store.delete(generation_key(owner))


def generation_key(owner: Owner) -> str:
    return f"generation:{owner.hex}"


def content_of(stored: bytes, generation: bytes, key: str) -> bytes | None:
    """Return the content of a stored value; None unless this release has stored it at this key and generation."""
    signed, content = stored[:SIGNATURE_BYTES], stored[SIGNATURE_BYTES:]
    return content if hmac.compare_digest(signed, signature(content, generation, key)) else None


def signature(content: bytes, generation: bytes, key: str) -> bytes:
    signed = generation + key.encode() + b"\0" + content
    return hashlib.blake2b(signed, key=signing_key(settings.SECRET_KEY), digest_size=SIGNATURE_BYTES).digest()


@lru_cache(maxsize=1)
def signing_key(secret: str) -> bytes:
    """Return the key of this release, derived from `SECRET_KEY`, which tests change."""
    return digests_by_secret("core.cache", settings.VERSION)[0]
