"""State machine of `test_privilege_escalation.py`: it compares all rights around each call."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
)

from iam.model import Key, User
from peer.errors import PeerError
from tests.hostile.escalation_rights import (
    BASE,
    BUILT_IN,
    CONSOLE,
    FINGERPRINTS,
    HOUSE_RIGHTS,
    NO_REACH,
    REFUSALS,
    SUCCESS,
    UNVERIFIED,
    USERS,
    Reach,
    Target,
    cddl,
    least,
)
from tests.kit.device import Answer, Caller, Kit

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from iam.model import State
    from tests.kit.device import Device


@dataclass
class Backer:
    """The creator of an invite or opener of a window; without a name it is the console.

    `then` is the reach at the creation, `low` the lowest reach since then.
    """

    name: str
    then: Reach
    low: Reach
    uses: int = 1
    gone: bool = False


@dataclass
class Observer:
    """An observation of /events. `lost` is the newest event when the right to it was lost."""

    who: int
    newest: int = 0
    lost: int | None = None
    task: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        return self.task is not None and self.task.done()


class TracebackHandler(logging.Handler):
    """A log handler that keeps the tracebacks, which the log must not contain."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.tracebacks: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.tracebacks.append(logging.Formatter().format(record))


class ComparingMachine(RuleBasedStateMachine):
    """Call the device as users with one key each, or as the console, and compare its states."""

    #: The number of calls by action and success, over all runs; a test checks that all occurred.
    seen: ClassVar[Counter[tuple[str, bool]]] = Counter()
    device: Device

    def __init__(self) -> None:
        super().__init__()
        self.log = TracebackHandler()
        logging.getLogger().addHandler(self.log)
        self.folder = TemporaryDirectory()
        self.kit = Kit(Path(self.folder.name) / "home")
        self.runner = asyncio.Runner()
        self.runner.get_loop().set_exception_handler(self.fault)
        self.faults: list[str] = []
        self.wall = self.now = BASE
        self.monotonic = 1000.0
        self.rights = HOUSE_RIGHTS
        self.tokens: list[tuple[str, bytes]] = []  # of every invite ever created
        self.backers: dict[str, Backer] = {}
        self.opener: Backer | None = None
        self.observers: list[Observer] = []
        self.callers: list[Caller] = []

    def fault(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.faults.append(str(context))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the loop of this machine, and then the callbacks it has scheduled."""

        async def settled() -> Any:
            done = await work
            for _ in range(12):  # close_notify and notifications on loopback
                await asyncio.sleep(0)
            return done

        return self.runner.run(settled())

    async def add_users(self) -> None:
        for place, (name, role, end) in enumerate(USERS):
            key = Key(FINGERPRINTS[place], "", "given", name not in UNVERIFIED, 1.0)
            self.device.app.access.registry.add_user(None, User(name, role, (key,), not_after=end))

    def teardown(self) -> None:
        try:
            for one in self.observers:
                if one.task is not None:
                    one.task.cancel()
            self.run(self.kit.close())
        finally:
            self.runner.close()
            self.folder.cleanup()
            logging.getLogger().removeHandler(self.log)
        assert not self.log.tracebacks, self.log.tracebacks[0]
        assert not self.faults, self.faults[0]

    # -- the expected rights --------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self.device.users

    def head(self) -> int:
        return self.device.app.access.store.audit.head[0]

    def reach(self, user: User | None) -> Reach:
        """The rank of the user and the end of their access, even before it starts."""
        if user is None or user.role not in self.rights.ranks:
            return NO_REACH
        return self.rights.ranks[user.role], user.end

    def acting(self, who: int) -> User | None:
        """The user of this key, if the access is active now."""
        user = self.state.user_of(FINGERPRINTS[who])
        return user if user is not None and user.start <= self.now < user.end else None

    def power_behind(self, backer: Backer) -> Reach:
        """The rights that the creator of an invite or window can grant now."""
        if not backer.name:
            return CONSOLE
        user = None if backer.gone else self.state.users.get(backer.name)
        if user is None or not user.start <= self.now < user.end:
            return NO_REACH
        return least(backer.then, self.reach(user))

    def follow(self, old: State, renamed: Target | None) -> None:
        """Update the reach of creators and openers after a change."""
        for backer in (*self.backers.values(), *([self.opener] if self.opener else [])):
            if not backer.name or backer.gone:
                continue
            before = old.users[backer.name]
            if renamed and renamed[0] == backer.name and renamed[1] in self.state.users:
                backer.name = renamed[1]
            after = self.state.users.get(backer.name)
            backer.gone = after is None
            if after and (after.role, after.end) != (before.role, before.end):
                backer.low = least(backer.low, self.reach(after))

    # -- calls and comparisons ------------------------------------------------------------------

    def call(
        self,
        who: int,
        request: tuple[str, str, object],
        *,
        action: str,
        targets: Sequence[Target] = (),
        fits: str = "",
        renamed: Target | None = None,
    ) -> Answer | None:
        """Send a request, check its answer, and compare the state before and after it."""
        old, head, user = self.state, self.head(), self.acting(who)
        power = self.reach(user)
        may = self.rights.may(user, action, *targets)
        answer = self.answered(who, request, fits)
        if self.state is not old:
            assert may, f"{user} changed something without {action}"
            self.compare(old, power, renamed)
            self.compare_vouched(old, who)
            self.follow(old, renamed)
        self.watch(head)
        done = answer is not None and answer.code in SUCCESS
        assert may or not done, f"{user} did {request} without {action}"
        self.seen[action, done] += 1
        return answer if done else None

    def answered(self, who: int, request: tuple[str, str, object], fits: str) -> Answer | None:
        method, path, body = request
        try:
            answer: Answer = self.run(self.callers[who].ask(method, path, body))
        except PeerError:
            return None  # the call has ended the caller's own session
        assert answer.code in SUCCESS | REFUSALS, (request, answer.code)
        if answer.code in REFUSALS:
            cddl().validate("problem", answer.payload)
        elif fits in cddl().rules:
            cddl().validate(fits, answer.payload)
        else:
            assert bool(answer.payload) == bool(fits)
        return answer

    def compare(self, old: State, power: Reach, renamed: Target | None = None) -> None:
        """Check that no one gained more than the caller had, or was changed from a lower rank."""
        new = self.state
        back = {renamed[1]: renamed[0]} if renamed else {}
        for name, before in old.users.items():
            if new.users.get(name) != before:
                top = self.rights.ranks.get(before.role, BUILT_IN["owner"])
                assert top <= power[0], f"{name} ranks above the user who changed them"
        for name, user in new.users.items():
            was = old.users.get(name) or old.users.get(back.get(name, ""))
            self.compare_rights(was, user, power)
        for key in (*FINGERPRINTS, "ab" * 32):
            had, has = old.user_of(key), new.user_of(key)
            if has is not None:
                self.compare_rights(had, has, power)
        for one, invite in new.invites.items():
            if one not in old.invites:
                assert self.rights.ranks[invite.role] <= power[0]
                assert max(invite.end, invite.expires) <= power[1]

    def compare_rights(self, had: User | None, has: User, power: Reach) -> None:
        before, after = self.reach(had), self.reach(has)
        earlier = had is not None and has.start < had.start
        if earlier or after != least(before, after):
            assert after == least(after, power), f"{had} rose to {has} by {power}"

    def compare_vouched(self, old: State, who: int) -> None:
        """Check that only another, verified key has changed the name or verification of a key."""
        caller = old.user_of(FINGERPRINTS[who])
        vouches = caller is not None and caller.key(FINGERPRINTS[who]).verified
        for user in self.state.users.values():
            for key in user.keys:
                had = old.user_of(key.fingerprint)
                was = had.key(key.fingerprint) if had else None
                if was is None or (was.name, was.verified) != (key.name, key.verified):
                    assert vouches, f"an unverified key vouched for {key}"
                    assert key.fingerprint != FINGERPRINTS[who], "a key vouched for itself"

    def compare_newcomer(self, old: State, key: str, limit: Reach) -> bool:
        """Check that at most one user got this key, within the limit; return whether one did.

        It is a new user, or one of this name who had no key.
        """
        new = self.state
        changed = [user for name, user in new.users.items() if old.users.get(name) != user]
        assert old.users.keys() <= new.users.keys()
        assert len(changed) <= 1
        for user in changed:
            assert user.fingerprints == {key}
            assert self.reach(user) == least(self.reach(user), limit), f"{user} beyond {limit}"
            before = old.users.get(user.name)
            if before is not None:
                assert not before.keys
                assert replace(user, keys=(), not_after=before.not_after) == before
                assert user.end <= before.end
        return bool(changed)

    def watch(self, head: int) -> None:
        """Check that no one received events after losing the right to them.

        `head` is the newest event before the last change.
        """
        for one in self.observers:
            if self.rights.may(self.acting(one.who), "Events:Read"):
                one.lost = None
            elif one.lost is None:
                one.lost = head
            assert one.lost is None or one.newest <= one.lost, (
                "an event was sent to a user without the right to read it"
            )
        self.observers = [one for one in self.observers if not one.is_over]

    @invariant()
    def an_owner_without_time_limit_remains(self) -> None:
        owners = [user for user in self.state.users.values() if user.role == "owner"]
        assert any(user.keys and (user.start, user.end) == (-inf, inf) for user in owners)

    @invariant()
    def invites_are_within_the_reach_of_their_creators(self) -> None:
        for one, invite in self.state.invites.items():
            backer = self.backers[one]
            assert invite.inviter == ("" if backer.gone else backer.name)
            if backer.name:
                assert not backer.gone
                assert invite.end <= backer.low[1]

    @invariant()
    def no_traceback_was_logged_and_no_callback_failed(self) -> None:
        assert not self.log.tracebacks, self.log.tracebacks[0]
        assert not self.faults, self.faults[0]
