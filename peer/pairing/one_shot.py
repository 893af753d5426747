"""The guard of one-shot objects: each step once, and in order.

The objects that hold a ceremony's secrets derive from `OneShot`, and their steps are marked with
`step`. A repeated step could give an attacker a second guess at a code, or one nonce in two
transcripts; a skipped one could leave a check out.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from peer.errors import Malformed
from peer.pairing.errors import Misuse

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_Object = TypeVar("_Object", bound="OneShot")


class OneShot:
    """Base class of objects whose steps run once each and in order.

    `order` lists the steps in groups: the steps of a group run in any order, and a group starts
    when the group before it is complete. A step out of order raises `Misuse` and changes nothing.
    An exception inside a step ends the object, except `Malformed`: such a message was not examined,
    so it may be sent again.
    """

    def __init__(self, *order: AbstractSet[Enum]) -> None:
        self._order = order
        self._steps_done: set[Enum] = set()
        self._is_busy_or_over = False

    def _enter(self, one: Enum) -> None:
        group = next((group for group in self._order if not group <= self._steps_done), frozenset())
        if self._is_busy_or_over or one not in group - self._steps_done:
            raise Misuse(
                f"the pairing step {one.name} was repeated or is out of order",
                advice="Start a new pairing.",
            )
        self._is_busy_or_over = True

    def _leave(self, one: Enum, *, is_done: bool) -> None:
        self._is_busy_or_over = False
        if is_done:
            self._steps_done.add(one)
            if all(group <= self._steps_done for group in self._order):
                self._finish(failed=False)

    def _finish(self, *, failed: bool) -> None:
        """Erase secrets: the last step is done, or a step has failed."""


def step(
    one: Enum,
) -> Callable[
    [Callable[Concatenate[_Object, _Arguments], _Result]],
    Callable[Concatenate[_Object, _Arguments], _Result],
]:
    """Mark a method of a `OneShot` as one of its steps."""

    def mark(
        method: Callable[Concatenate[_Object, _Arguments], _Result],
    ) -> Callable[Concatenate[_Object, _Arguments], _Result]:
        @wraps(method)
        def guarded(
            self: _Object, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
        ) -> _Result:
            self._enter(one)
            try:
                result = method(self, *args, **kwargs)
            except Malformed:
                self._leave(one, is_done=False)
                raise
            except BaseException:
                self._finish(failed=True)
                raise
            self._leave(one, is_done=True)
            return result

        return guarded

    return mark
