"""A persistent map is like a dict that is copied at each change, and shares what did not change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.persistent_map import PersistentMap

KEYS = st.sampled_from("abcdefgh")


@given(
    st.dictionaries(KEYS, st.integers()),
    st.lists(st.tuples(st.sampled_from(["insert", "remove", "discard"]), KEYS, st.integers())),
)
def test_every_version_is_like_a_dict(
    base: dict[str, int], steps: list[tuple[str, str, int]]
) -> None:
    expected = dict(base)
    found = PersistentMap(dict(base))
    versions = [(found, dict(expected))]
    for what, key, value in steps:
        match what:
            case "insert":
                found = found.insert(key, value)
                expected[key] = value
            case "discard":
                found = found.discard(key)
                expected.pop(key, None)
            case _:
                if key not in expected:
                    with pytest.raises(KeyError):
                        found.remove(key)
                    continue
                found = found.remove(key)
                del expected[key]
        versions.append((found, dict(expected)))
    for version, content in versions:  # the older ones, too, after all changes
        assert version == content
        assert content == dict(version.items())
        assert len(version) == len(content) == len(list(version))
        assert bool(version) is bool(content)
        assert sorted(version.values()) == sorted(content.values())
        for key in "abcdefghi":
            assert (key in version) is (key in content)
            assert version.get(key) == content.get(key)
            assert version.get(key, 7) == content.get(key, 7)
            if key in content:
                assert version[key] == content[key]
            else:
                with pytest.raises(KeyError):
                    version[key]


def test_two_maps_are_equal_if_their_entries_are() -> None:
    one = PersistentMap({"a": 1, "b": 2}).remove("a")
    other = PersistentMap({"c": 3}).remove("c").insert("b", 2)
    assert one == other
    assert one != other.insert("b", 3)


@given(
    st.dictionaries(KEYS, st.integers(0, 2)),
    st.lists(st.tuples(st.booleans(), KEYS, st.integers(0, 2))),
    st.integers(0, 8),
    st.booleans(),
)
def test_keys_that_are_not_named_have_the_same_value_in_both_maps(
    base: dict[str, int], steps: list[tuple[bool, str, int]], split: int, is_related: bool
) -> None:
    """Also between branches, and between maps that do not come from one another."""

    def changed(found: PersistentMap[str, int], some: list[tuple[bool, str, int]]) -> None:
        for is_insert, key, value in some:
            found = found.insert(key, value) if is_insert else found.discard(key)
        versions.append(found)

    versions: list[PersistentMap[str, int]] = []
    start = PersistentMap(base)
    changed(start, steps[:split])
    changed(start if is_related else PersistentMap(dict(base)), steps[split:])
    one, other = versions
    apart = [*one.keys_apart(other)]
    assert len(apart) == len({*apart})
    for key in {*"abcdefgh"} - {*apart}:
        assert one.get(key) == other.get(key)
    if is_related:
        assert {*apart} <= {key for _, key, _ in steps}


def test_a_value_may_be_none() -> None:
    found = PersistentMap({"a": None}).insert("b", None)
    assert found.get("b", 1) is None
    assert found.get("a", 1) is None
    assert found.remove("a").get("a", 1) == 1
