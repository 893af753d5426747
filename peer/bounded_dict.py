"""A dictionary that remembers a bounded number of recent entries.

It is for everything that other hosts can make grow: adding an entry beyond the bound drops the
oldest one.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedDict(MutableMapping[K, V]):
    """Keeps the newest entries, at most `most` of them and `most_weight` in total.

    Setting a key makes its entry the newest; reading does not. The newest entry always stays,
    whatever its weight.

    Args:
        most: the number of entries, at least 1.
        most_weight: the total weight, in the unit of `weigh`.
        weigh: the weight of a value, taken when it is set.
        on_evict: called with each key and value that the bound drops.
    """

    def __init__(
        self,
        most: int,
        *,
        most_weight: int = 0,
        weigh: Callable[[V], int] = lambda _value: 0,
        on_evict: Callable[[K, V], object] = lambda _key, _value: None,
    ) -> None:
        self._most = most
        self._most_weight = most_weight
        self._weigh = weigh
        self._on_evict = on_evict
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self.weight = 0

    def __getitem__(self, key: K) -> V:
        return self._entries[key][0]

    def __setitem__(self, key: K, value: V) -> None:
        self.pop(key, None)
        weight = self._weigh(value)
        self._entries[key] = value, weight
        self.weight += weight
        self._evict()

    def __delitem__(self, key: K) -> None:
        self.weight -= self._entries.pop(key)[1]

    def __iter__(self) -> Iterator[K]:
        """Yield the keys, the oldest first."""
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def weigh_again(self) -> None:
        """Take the weights of values that have changed since they were set."""
        for key, (value, _) in self._entries.items():
            self._entries[key] = value, self._weigh(value)
        self.weight = sum(weight for _, weight in self._entries.values())
        self._evict()

    def _evict(self) -> None:
        while len(self._entries) > 1 and (
            len(self._entries) > self._most or self.weight > self._most_weight
        ):
            key, (value, weight) = self._entries.popitem(last=False)
            self.weight -= weight
            self._on_evict(key, value)
