"""The rendezvous in every order of its events, and with every message lost once.

A schedule is a list of choices: at each step, one of the messages in flight is delivered, or one
side reports a gathered carrier. `every_schedule` runs all of them, by running each prefix again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer.remote.effects import PathAgreed, Publish, Refused
from peer.remote.messages import CarrierKind, RefusalReason
from tests.kit.rendezvous import SimulatedDevice, carrier, client_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DIRECT, RELAY = CarrierKind


@dataclass
class Run:
    """One attempt, its messages in flight, and the carriers that are being gathered."""

    missing_client: frozenset[CarrierKind] = frozenset()  # what the client cannot gather
    missing_device: frozenset[CarrierKind] = frozenset()
    device: SimulatedDevice = field(default_factory=SimulatedDevice)
    flying: list[Publish] = field(default_factory=list)
    client_gathers: list[CarrierKind] = field(default_factory=lambda: list(CarrierKind))
    device_gathers: list[CarrierKind] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = client_of(self.device)
        self.flying.append(self.client.start())

    def choices(self) -> list[Callable[[], None]]:
        """The events that can happen now."""
        return [
            *(lambda one=one: self.deliver(one) for one in self.flying),
            *(lambda kind=kind: self.gather_client(kind) for kind in self.client_gathers),
            *(lambda kind=kind: self.gather_device(kind) for kind in self.device_gathers),
        ]

    def deliver(self, message: Publish, now: float = 0.0) -> None:
        self.flying.remove(message)
        if message.topic == self.client.rendezvous.reply_topic:
            self.flying += self.client.receive(message, now)
            return
        opened = len(self.device.opened)
        self.flying += self.device.receive(message, now)
        if len(self.device.opened) > opened:
            self.device_gathers = list(CarrierKind)

    def gather_client(self, kind: CarrierKind, now: float = 0.0) -> None:
        self.client_gathers.remove(kind)
        offer = None if kind in self.missing_client else carrier("client", kind)
        self.flying += self.client.act(self.client.rendezvous.gathered(kind, offer, now))

    def gather_device(self, kind: CarrierKind, now: float = 0.0) -> None:
        self.device_gathers.remove(kind)
        offer = None if kind in self.missing_device else carrier("device", kind)
        path_id = self.device.opened[0].path_id
        self.flying += self.device.act(self.device.rendezvous.gathered(path_id, kind, offer, now))

    def check_agreed(self) -> None:
        """Both sides agreed once, and each knows all that the other could gather."""
        [opened], [agreed] = self.device.opened, self.client.agreed
        assert (opened.path_id, opened.path_keys) == (agreed.path_id, agreed.path_keys)
        assert set(self.client.remote) == set(CarrierKind) - self.missing_device
        assert {kind for _, kind in self.device.remote} == set(CarrierKind) - self.missing_client
        effects = [type(one) for one in self.client.effects]
        assert effects.count(PathAgreed) == 1
        assert self.device.rendezvous.dropped == {}


def every_schedule(create: Callable[[], Run]) -> Iterator[Run]:
    """Run every schedule to its end."""
    pending: list[list[int]] = [[]]
    while pending:
        schedule = pending.pop()
        run = create()
        for choice in schedule:
            run.choices()[choice]()
        while choices := run.choices():  # the first choice; the others have a run of their own
            pending += [[*schedule, other] for other in range(1, len(choices))]
            schedule = [*schedule, 0]
            choices[0]()
        yield run


NONE: frozenset[CarrierKind] = frozenset()


@pytest.mark.parametrize(
    ("missing_client", "missing_device", "runs"),
    [
        (NONE, NONE, 792),
        ({RELAY}, NONE, 162),
        (NONE, {DIRECT}, 288),
        ({DIRECT}, {RELAY}, 72),
    ],
)
def test_both_sides_learn_every_carrier_in_every_order(
    missing_client: set[CarrierKind], missing_device: set[CarrierKind], runs: int
) -> None:
    done = 0
    for run in every_schedule(lambda: Run(frozenset(missing_client), frozenset(missing_device))):
        run.check_agreed()
        done += 1
    assert done == runs


@pytest.mark.parametrize("missing", ["client", "device"])
def test_an_attempt_without_carriers_ends_in_every_order(missing: str) -> None:
    both = frozenset(CarrierKind)
    for run in every_schedule(lambda: Run(both, NONE) if missing == "client" else Run(NONE, both)):
        assert run.client.rendezvous.is_over
        assert run.client.agreed == []
        if missing == "device":
            assert run.client.effects[-1] == Refused(RefusalReason.NO_PATH, None)
            assert len(run.device.ended) == 1
        else:
            assert run.device.opened == []


# ------------------------------------------------------------------------------ loss and repeats


def run_with(
    lost: Callable[[int], bool], *, repeated: Callable[[int], bool] = lambda _n: False
) -> Run:
    """Run an attempt in its usual order with timers; `lost` and `repeated` get message numbers."""
    run = Run()
    now, number = 0.0, 0
    while not run.client.rendezvous.is_over and now < 60:
        while run.flying or run.client_gathers or run.device_gathers:
            if run.client_gathers:
                run.gather_client(run.client_gathers[0], now)
            elif run.device_gathers:
                run.gather_device(run.device_gathers[0], now)
            else:
                message = run.flying[0]
                if repeated(number):
                    run.flying.append(message)
                if lost(number):
                    run.flying.remove(message)
                else:
                    run.deliver(message, now)
                number += 1
        if len(run.client.remote) == len(CarrierKind):
            break
        now = run.client.rendezvous.next_timeout() or 60.0
        run.flying += run.client.act(run.client.rendezvous.handle_timeout(now))
        run.device.act(run.device.rendezvous.handle_timeout(now))
    return run


@pytest.mark.parametrize("number", range(7))
def test_any_one_message_may_be_lost(number: int) -> None:
    run = run_with(lambda one: one == number)
    assert len(run.client.agreed) == 1
    assert set(run.client.remote) == set(CarrierKind)
    assert set(run.device.remote) == {(run.client.agreed[0].path_id, kind) for kind in CarrierKind}
    assert len(run.device.opened) == 1


def test_every_message_may_arrive_twice() -> None:
    run = run_with(lambda _number: False, repeated=lambda number: number < 12)
    run.device.rendezvous.dropped.clear()
    run.check_agreed()


@settings(max_examples=60)
@given(
    lost=st.sets(st.integers(0, 25)),
    repeated=st.sets(st.integers(0, 10)),
)
def test_losses_and_repeats_never_make_the_sides_disagree(
    lost: set[int], repeated: set[int]
) -> None:
    run = run_with(lost.__contains__, repeated=repeated.__contains__)
    assert len(run.device.opened) <= 1
    for agreed in run.client.agreed:
        assert [agreed.path_keys] == [one.path_keys for one in run.device.opened]
    assert run.client.agreed or run.client.rendezvous.is_over
