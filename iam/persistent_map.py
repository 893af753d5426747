"""A persistent map: a change returns another map and costs the same whatever the size.

It is a map that never changes, shared by all maps that come from one another, and a hash trie of
what has changed since. A store that has just been read has no trie: a dict takes a third of the
memory of one and finds an entry faster. The trie never holds more than what differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Final, TypeVar, final, overload

from rpds import HashTrieMap

_K = TypeVar("_K")
_V = TypeVar("_V")
_T = TypeVar("_T")


@final
class _Absent:
    """The value in a trie for an entry of the base that was removed, and for no entry at all."""


_REMOVED: Final = _Absent()
_UNCHANGED: Final = _Absent()


@final
class PersistentMap(Mapping[_K, _V]):
    """An immutable map; `insert`, `remove` and `discard` return another one."""

    __slots__ = ("_base", "_changes", "_count")

    def __init__(self, base: Mapping[_K, _V] | None = None) -> None:
        """Start with the entries of another map, which must not change any more."""
        self._base: Mapping[_K, _V] = {} if base is None else base
        self._changes: HashTrieMap[_K, _V | _Absent] | None = None
        self._count = len(self._base)

    @overload
    def get(self, key: _K, /) -> _V | None: ...
    @overload
    def get(self, key: _K, /, default: _V | _T) -> _V | _T: ...
    def get(self, key: _K, /, default: _V | _T | None = None) -> _V | _T | None:
        """Return the value of a key, or the default."""
        if self._changes is None:
            return self._base.get(key, default)
        found = self._changes.get(key, _UNCHANGED)
        if isinstance(found, _Absent):
            return self._base.get(key, default) if found is _UNCHANGED else default
        return found

    def __getitem__(self, key: _K) -> _V:
        """Return the value of a key. Raises KeyError."""
        if self._changes is None:
            return self._base[key]
        found = self._changes.get(key, _UNCHANGED)
        if isinstance(found, _Absent):
            if found is _REMOVED:
                raise KeyError(key)
            return self._base[key]
        return found

    def __contains__(self, key: object) -> bool:
        """Return whether there is an entry with this key."""
        if self._changes is None or key not in self._changes:
            return key in self._base
        return self._changes[key] is not _REMOVED  # type: ignore[index]

    def __iter__(self) -> Iterator[_K]:
        """Yield the keys: those of the base that are left, then the others."""
        if self._changes is None:
            yield from self._base
            return
        for key in self._base:
            if self._changes.get(key, _UNCHANGED) is not _REMOVED:
                yield key
        for key, value in self._changes.items():
            if value is not _REMOVED and key not in self._base:
                yield key

    def __len__(self) -> int:
        """Return the number of entries."""
        return self._count

    def __repr__(self) -> str:
        """Show the entries."""
        return f"{type(self).__name__}({dict(self)!r})"

    def keys_apart(self, other: PersistentMap[_K, _V]) -> Iterable[_K]:
        """Return keys, each once; every other key has the same value in both maps, or is in none.

        If the maps come from one another, these are only the keys that were changed.
        """
        if self._base is other._base:
            return {*(self._changes or ()), *(other._changes or ())}
        return chain(self, (key for key in other if key not in self))

    def insert(self, key: _K, value: _V) -> PersistentMap[_K, _V]:
        """Return a map with this entry, in place of one with this key."""
        return self._changed(key, value, self._count + (key not in self))

    def remove(self, key: _K) -> PersistentMap[_K, _V]:
        """Return a map without this key. Raises KeyError."""
        if key not in self:
            raise KeyError(key)
        if key in self._base:
            return self._changed(key, _REMOVED, self._count - 1)
        assert self._changes is not None
        return self._with(self._changes.remove(key), self._count - 1)

    def discard(self, key: _K) -> PersistentMap[_K, _V]:
        """Return a map without this key, if there is one."""
        return self.remove(key) if key in self else self

    def _changed(self, key: _K, value: _V | _Absent, count: int) -> PersistentMap[_K, _V]:
        changes = HashTrieMap() if self._changes is None else self._changes
        return self._with(changes.insert(key, value), count)

    def _with(self, changes: HashTrieMap[_K, _V | _Absent], count: int) -> PersistentMap[_K, _V]:
        other: PersistentMap[_K, _V] = PersistentMap.__new__(PersistentMap)
        other._base, other._changes, other._count = self._base, changes, count
        return other
