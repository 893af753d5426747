"""One-shot objects: each step runs once and in order."""

from enum import Enum, auto

import pytest

from peer.errors import Malformed
from peer.pairing.errors import Mismatch, Misuse
from peer.pairing.one_shot import OneShot, step


class Step(Enum):
    FIRST = auto()
    SECOND = auto()
    THIRD = auto()


class Example(OneShot):
    """FIRST and SECOND in any order, then THIRD."""

    def __init__(self) -> None:
        super().__init__(frozenset({Step.FIRST, Step.SECOND}), frozenset({Step.THIRD}))
        self.finished: list[bool] = []
        self.repeats: list[Misuse] = []

    @step(Step.FIRST)
    def first(self, error: Exception | None = None) -> str:
        if error is not None:
            raise error
        return "first"

    @step(Step.SECOND)
    def second(self) -> None:
        """Call a step inside a step."""
        with pytest.raises(Misuse) as caught:
            self.first()
        self.repeats.append(caught.value)

    @step(Step.THIRD)
    def third(self) -> None:
        pass

    @step(Step.THIRD)
    def other_third(self) -> None:
        pass

    def _finish(self, *, failed: bool) -> None:
        self.finished.append(failed)


def test_steps_run_once_and_in_group_order() -> None:
    for names in (("first", "second"), ("second", "first")):
        example = Example()
        with pytest.raises(Misuse, match="THIRD") as caught:
            example.third()
        assert caught.value.advice
        for name in names:
            getattr(example, name)()
            with pytest.raises(Misuse):
                getattr(example, name)()
        assert example.finished == []
        example.third()
        assert example.finished == [False]
        for name in (*names, "third", "other_third"):
            with pytest.raises(Misuse):
                getattr(example, name)()


def test_a_step_returns_its_result() -> None:
    assert Example().first() == "first"


def test_a_step_called_inside_another_raises_misuse() -> None:
    example = Example()
    example.second()
    assert len(example.repeats) == 1
    example.first()


@pytest.mark.parametrize("error", [Mismatch("wrong"), Misuse("no random bytes"), ValueError()])
def test_no_step_is_possible_after_an_error(error: Exception) -> None:
    example = Example()
    with pytest.raises(type(error)):
        example.first(error)
    assert example.finished == [True]
    for again in (example.first, example.second, example.third):
        with pytest.raises(Misuse):
            again()


def test_a_malformed_message_does_not_use_up_the_step() -> None:
    example = Example()
    with pytest.raises(Malformed):
        example.first(Malformed("not a byte string"))
    assert example.finished == []
    example.first()
