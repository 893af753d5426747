"""The window's invariants hold for any order of actions by clients, users, store and clock."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from peer.identity import Fingerprint
from peer.limits import DEFAULT_LIMITS
from peer.pairing.binding import Channel
from peer.pairing.budget import AttemptBudget
from peer.pairing.ceremony import Ceremony, Stage, StartForm, State
from peer.pairing.compare import CompareClient
from peer.pairing.compare import offer as offer_compare
from peer.pairing.errors import CeremonyError
from peer.pairing.sides import Terms, bytes_field
from peer.pairing.window import Window
from peer.pairing.window_timer import Phase

DEVICE = Fingerprint(b"\xdd" * 32)
WINDOW_ID = b"\x0a" * 16
KEYS = [Fingerprint(bytes([n]) * 32) for n in (1, 2, 3)]
# Weighted so that many pairings succeed: another client, an old ceremony or a long wait is rare.
clients = st.sampled_from([0, 0, 0, 0, 0, 0, 0, 0, 1, 2])
recent = st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2])
rarely = st.sampled_from([False] * 9 + [True])
waits = st.sampled_from([0.0, 0.5, 1.0, 5.0, 5.0, 30.0, 61.0, 121.0, 900.0])


class WindowMachine(RuleBasedStateMachine):
    """Three clients, a device, a clock, and a model of what both sides have accepted."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.ids: list[str] = []
        self.started: dict[str, Ceremony] = {}
        self.device_accepted: set[str] = set()
        self.client_confirmed: set[str] = set()
        self.keys: set[Fingerprint] = set()
        self.ended: list[str] = []
        self.was_closed = False
        self.successes = 0
        self.refusals: list[tuple[str, str, str]] = []

    @initialize(failures=st.sampled_from([0, 0, 8, 9, 12]))
    def open_first_window(self, failures: int) -> None:
        self.create_window("refuse", 900.0, AttemptBudget(failures=failures))

    @precondition(lambda self: self.was_closed and self.window.pending() is None)
    @rule(overlap=st.sampled_from(["refuse", "first-wins"]), seconds=st.floats(30, 2000))
    def open_another_window(self, overlap: str, seconds: float) -> None:
        self.check_reports()
        self.create_window(overlap, seconds, self.window.budget)

    def create_window(self, overlap: str, seconds: float, budget: AttemptBudget) -> None:
        self.overlap = overlap
        self.window = Window.open(
            self.now,
            seconds=seconds,
            role="guest",
            methods=[offer_compare()],
            window_id=WINDOW_ID,
            device=DEVICE,
            overlap=overlap,
            budget=budget,
        )
        self.started = {}
        self.keys = set()
        self.ended = []
        self.was_closed = False
        self.successes = 0

    def attempt(self, call: Any, *args: Any, **options: Any) -> Ceremony | None:
        """Call; None if it was refused. Only a CeremonyError with advice may be raised."""
        try:
            result: Ceremony | None = call(*args, **options)
        except CeremonyError as error:
            self.refusals.append((error.reason, str(error), error.advice))
            return None
        return result

    def pick(self, back: int) -> str:
        return self.ids[-1 - back] if back < len(self.ids) else "unknown"

    @rule(seconds=waits)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(who=clients, form=st.sampled_from(StartForm))
    def start(self, who: int, form: StartForm) -> None:
        before = self.window.budget
        live = self.window.pending()
        ceremony = self.attempt(
            self.window.start,
            self.now,
            fingerprint=KEYS[who],
            session_id=who,
            ekm=bytes([0x40 + who]) * 32,
            method="compare",
            name=f"client{who}",
            ceremony_id=f"c{len(self.ids)}",
            form=form,
        )
        if ceremony is None:
            assert self.window.budget == before
            return
        assert before.may_start(self.now)
        assert self.window.budget.failures == before.failures + 1
        assert not self.was_closed
        if live is not None:
            assert not self.window.find(live.id, session_id=live.session_id).is_live
        self.keys.add(KEYS[who])
        self.ids.append(ceremony.id)
        self.started[ceremony.id] = ceremony
        if form is StartForm.PLAIN:
            self.client_confirmed.add(ceremony.id)

    @rule(back=recent, accept=st.sampled_from([True, True, True, False]))
    def device_user_answers(self, back: int, accept: bool) -> None:
        key = self.pick(back)
        if self.attempt(self.window.decide, key, accept=accept, now=self.now) and accept:
            self.device_accepted.add(key)

    @rule(back=recent, who=clients, honest=st.sampled_from([True, True, True, False]))
    def client_completes(self, back: int, who: int, honest: bool) -> None:
        key = self.pick(back)
        tag = b"\0" * 32
        own = key in self.started and self.started[key].session_id == who
        if honest:
            channel = Channel(bytes([0x40 + who]) * 32, KEYS[who], DEVICE, WINDOW_ID)
            client = CompareClient()
            client.begin()
            client.started_untrusted(Terms(channel, "guest", f"client{who}", key), {})
            tag = bytes_field(client.confirm(), "confirm")
        result = self.attempt(self.window.complete, key, {"confirm": tag}, self.now, session_id=who)
        if result is not None:
            assert honest
            assert own
            assert key in self.device_accepted
            self.client_confirmed.add(key)

    @rule(back=recent)
    def device_commits(self, back: int) -> None:
        key = self.pick(back)
        done = self.attempt(self.window.registered, key, user="u", now=self.now)
        if done is None:
            return
        assert key in self.device_accepted
        assert key in self.client_confirmed
        assert done.state is State.REGISTERED
        assert not self.window.is_open(self.now)
        assert self.window.budget.failures == 0
        self.successes += 1

    @rule(steps=st.integers(1, 4), who=clients, form=st.sampled_from(StartForm))
    def honest_pairing_continues(self, steps: int, who: int, form: StartForm) -> None:
        """Perform the next steps of a successful pairing, from any state."""
        for _ in range(steps):
            live = self.window.pending()
            if live is None:
                self.start(who, form)
            elif live.stage is Stage.ASKING:
                self.device_user_answers(0, accept=True)
            elif live.stage is Stage.WAITING:
                self.client_completes(0, live.session_id, honest=True)
            else:
                self.device_commits(0)

    @rule(back=recent, who=clients, happens=rarely)
    def client_aborts(self, back: int, who: int, happens: bool) -> None:
        if happens:
            self.attempt(self.window.abort, self.pick(back), self.now, session_id=who)

    @rule(back=recent, happens=rarely)
    def store_fails(self, back: int, happens: bool) -> None:
        if happens:
            self.attempt(self.window.abort, self.pick(back), self.now, reason="store")

    @rule(who=clients, happens=rarely)
    def session_ends(self, who: int, happens: bool) -> None:
        if happens:
            self.window.session_ended(who, self.now)

    @rule(seconds=st.floats(1, 2000))
    def window_is_extended(self, seconds: float) -> None:
        before = self.window.seconds_left(self.now)
        self.attempt(self.window.extend, self.now, seconds)
        after = self.window.seconds_left(self.now)
        assert after <= max(before, seconds) + 1e-6

    @rule(happens=rarely)
    def console_closes_window(self, happens: bool) -> None:
        if happens:
            self.window.close(self.now)
            assert not self.window.is_open(self.now)

    @rule(back=recent)
    def client_reads_result(self, back: int) -> None:
        self.window.notified(self.pick(back))

    @rule()
    def timer_fires(self) -> None:
        self.ended += [ceremony.id for ceremony in self.window.expire(self.now)]
        deadline = self.window.next_deadline(self.now)
        assert deadline is None or deadline > self.now

    @invariant()
    def at_most_one_ceremony_is_live(self) -> None:
        live = [
            key
            for key, ceremony in self.started.items()
            if self.window.find(key, session_id=ceremony.session_id).is_live
        ]
        pending = self.window.pending()
        assert live == ([pending.id] if pending else [])

    @invariant()
    def both_sides_agreed_before_registration(self) -> None:
        for key, ceremony in self.started.items():
            now = self.window.find(key, session_id=ceremony.session_id)
            if now.stage in {Stage.COMMITTING, Stage.REGISTERED}:
                assert key in self.device_accepted
                assert key in self.client_confirmed
            assert bool(now.device_tag) == (
                now.state is State.REGISTERED and now.form is StartForm.CONFIRMED
            )
        assert self.successes <= 1

    @invariant()
    def an_open_window_has_few_failures(self) -> None:
        if self.started and self.window.phase is Phase.OPEN:
            assert self.window.failures < DEFAULT_LIMITS.window_failures

    @invariant()
    def the_open_time_is_bounded(self) -> None:
        if hasattr(self, "window"):
            assert 0 <= self.window.seconds_left(self.now) <= DEFAULT_LIMITS.window_max_seconds

    @invariant()
    def a_closed_window_stays_closed(self) -> None:
        if hasattr(self, "window"):
            if self.was_closed:
                assert not self.window.is_open(self.now)
            self.was_closed = not self.window.is_open(self.now)

    @invariant()
    def one_key_per_window(self) -> None:
        if hasattr(self, "window") and self.overlap == "refuse":
            assert len(self.keys) <= 1

    def check_reports(self) -> None:
        """Every ending is reported once, and the lists stay short."""
        self.ended += [ceremony.id for ceremony in self.window.take_ended()]
        assert len(self.ended) == len(set(self.ended))
        assert len(self.window.take_events()) <= 2 * len(self.started) + 3
        assert all(all(refusal) for refusal in self.refusals)

    def teardown(self) -> None:
        if hasattr(self, "window"):
            self.check_reports()


TestWindow = WindowMachine.TestCase
TestWindow.settings = settings(max_examples=300, stateful_step_count=40)
