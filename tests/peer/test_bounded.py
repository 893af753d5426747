"""`BoundedDict` and `TokenBucket`, the building blocks of every table that a peer can grow."""

from math import inf

from peer.bounded_dict import BoundedDict
from peer.token_bucket import TokenBucket


def test_the_oldest_entry_is_evicted_and_setting_renews_an_entry() -> None:
    dropped: list[tuple[str, int]] = []
    entries: BoundedDict[str, int] = BoundedDict(
        2, on_evict=lambda key, value: dropped.append((key, value))
    )
    entries["a"] = 1
    entries["b"] = 2
    assert entries["a"] == 1, "reading does not make an entry newer"
    entries["a"] = 3
    entries["c"] = 4
    assert dict(entries) == {"a": 3, "c": 4}
    assert dropped == [("b", 2)]
    del entries["a"]
    assert (entries.pop("c"), len(entries), dropped) == (4, 0, [("b", 2)])


def test_the_weight_is_bounded_but_the_newest_entry_always_stays() -> None:
    entries: BoundedDict[int, bytearray] = BoundedDict(9, most_weight=10, weigh=len)
    for number in range(5):
        entries[number] = bytearray(3)
    assert (list(entries), entries.weight) == ([2, 3, 4], 9)
    entries[3] += bytearray(4)
    assert entries.weight == 10, "3 was set again, so it is the newest"
    assert list(entries) == [4, 3]
    entries[4].extend(bytes(8))
    entries.weigh_again()
    assert (list(entries), entries.weight) == ([3], 7)
    entries[5] = bytearray(50)
    assert (list(entries), entries.weight) == ([5], 50)


def test_a_bucket_starts_full_and_refills_at_its_rate() -> None:
    bucket = TokenBucket(per_second=2, burst=10, now=100.0)
    assert bucket.seconds_until(10, 100.0) == 0
    assert bucket.seconds_until(11, 100.0) == inf, "more than the bucket can hold"
    bucket.take(10)
    assert bucket.seconds_until(4, 100.0) == 2
    assert bucket.level(101.5) == 3
    bucket.take(5)
    assert bucket.level(101.5) == -2, "the level may be negative"
    assert bucket.level(200.0) == 10
