"""Deduplication of requests: which requests count as repeats, and the bound in bytes."""

import tracemalloc
from dataclasses import replace

from peer.limits import DEFAULT_LIMITS
from peer.net.repeats import RecentRequests

LIMITS = replace(DEFAULT_LIMITS, dedup_window=4, dedup_bytes=10_000, exchange_seconds=100)


def request(message_id: int, rest: bytes = b"") -> bytes:
    return b"\x40\x01" + message_id.to_bytes(2) + rest


def test_a_repeat_has_the_message_id_and_bytes_of_a_recent_request() -> None:
    repeats = RecentRequests(LIMITS)
    for rest in (b"short", bytes(300)):
        repeats.note(request(7, rest), 0.0)
        found = repeats.find(request(7, rest), 99.0)
        assert found is not None
        assert found.answer == b""
        repeats.answered(7, b"answer")
        repeats.answered(7, b"another message under that number")
        found = repeats.find(request(7, rest), 99.0)
        assert found is not None
        assert found.answer == b"answer"
        assert repeats.find(request(7, rest + b"!"), 99.0) is None
        assert repeats.find(request(8, rest), 99.0) is None
        assert repeats.find(request(7, rest), 100.0) is None, "the entry has expired"
    repeats.answered(9, b"to a request that is not known")
    assert len(repeats) == 1


def test_a_reused_message_id_replaces_the_earlier_request() -> None:
    repeats = RecentRequests(LIMITS)
    repeats.note(request(7, b"old"), 0.0)
    repeats.answered(7, b"old answer")
    repeats.note(request(7, b"new"), 1.0)
    assert repeats.find(request(7, b"old"), 1.0) is None
    found = repeats.find(request(7, b"new"), 1.0)
    assert found is not None
    assert found.answer == b""


def test_the_oldest_requests_are_evicted_by_number_and_by_bytes() -> None:
    repeats = RecentRequests(LIMITS)
    for number in range(6):
        repeats.note(request(number), 0.0)
    assert [repeats.find(request(number), 0.0) is not None for number in range(6)] == [
        *[False] * 2,
        *[True] * 4,
    ]
    repeats.answered(5, bytes(9_000))
    assert repeats.held_bytes <= LIMITS.dedup_bytes
    assert repeats.find(request(5), 0.0) is not None, "the newest entry and its answer fit"
    repeats.answered(4, bytes(9_000))
    assert repeats.held_bytes <= LIMITS.dedup_bytes
    repeats.note(request(9), 0.0)
    repeats.answered(9, bytes(20_000))
    assert len(repeats) == 1, "the newest entry stays; it is one datagram at most"
    repeats.note(request(10), 0.0)
    assert (len(repeats), repeats.find(request(9), 0.0)) == (1, None)


def test_the_counted_bytes_match_the_memory_in_use() -> None:
    """The counted bytes are close to the real memory use, and never far above the bound."""
    repeats = RecentRequests(DEFAULT_LIMITS)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(5_000):
            repeats.note(request(number % 3_000, bytes(number % 1_400)), number / 1e3)
            repeats.answered(number % 3_000, bytes(number % 1_100))
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert repeats.held_bytes <= DEFAULT_LIMITS.dedup_bytes
    assert repeats.held_bytes / 2 < held < 2 * repeats.held_bytes
