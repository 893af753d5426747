"""The calls of `test_privilege_escalation.py` that change users and keys."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    rule,
)

from tests.hostile.escalation_machine import ComparingMachine
from tests.hostile.escalation_rights import (
    FINGERPRINTS,
    Target,
    callers,
    change_bodies,
    creators,
    fingerprints,
    methods,
    names,
    new_names,
    roles,
    user_bodies,
)


class UserCalls(ComparingMachine):
    """Calls that add, change and remove users and keys."""

    @rule(who=creators, name=new_names, role=roles, more=user_bodies, key=fingerprints | st.none())
    def add_user(
        self, who: int, name: str, role: str, more: dict[str, Any], key: str | None
    ) -> None:
        body = {"name": name, "role": role, **more, "keys": [key] if key else []}
        self.call(
            who,
            ("POST", "/iam/users", body),
            action="Iam:AddUser",
            targets=[(name, role)],
            fits="user-info",
        )

    def target(self, name: str) -> Target:
        user = self.state.users.get(name)
        return name, user.role if user else ""

    @rule(who=callers, name=names, body=change_bodies, method=methods)
    def change_user(self, who: int, name: str, body: dict[str, Any], method: str) -> None:
        before = self.target(name)
        after = body.get("name", name), body.get("role", before[1])
        self.call(
            who,
            (method, f"/iam/users/{name}", body),
            action="Iam:SetUser",
            targets=[before, after],
            fits="user-info",
            renamed=(name, after[0]),
        )

    @rule(who=callers, name=names)
    def remove_user(self, who: int, name: str) -> None:
        request = "DELETE", f"/iam/users/{name}", None
        self.call(who, request, action="Iam:RemoveUser", targets=[self.target(name)])

    @rule(who=callers, name=names, key=fingerprints, upper=st.booleans())
    def add_key(self, who: int, name: str, key: str, *, upper: bool) -> None:
        path = f"/iam/users/{name}/keys/{key.upper() if upper else key}"
        request = "PUT", path, {"name": "second"}
        targets = [self.target(name)]
        self.call(who, request, action="Iam:AddKey", targets=targets, fits="user-info")

    @rule(who=callers, called=st.sampled_from((None, "second", "phone")))
    def vouch_for_own_key(self, who: int, called: str | None) -> None:
        user = self.state.user_of(FINGERPRINTS[who])
        if user is not None:
            request = (
                "PUT",
                f"/iam/users/{user.name}/keys/{FINGERPRINTS[who]}",
                {"name": called or ""},
            )
            targets = [self.target(user.name)]
            self.call(who, request, action="Iam:AddKey", targets=targets, fits="user-info")

    @rule(who=callers, name=names, own=st.booleans())
    def remove_key(self, who: int, name: str, *, own: bool) -> None:
        user = self.state.user_of(FINGERPRINTS[who]) if own else self.state.users.get(name)
        if user is not None and user.keys:
            path = f"/iam/users/{user.name}/keys/{user.keys[-1].fingerprint}"
            targets = [self.target(user.name)]
            self.call(who, ("DELETE", path, None), action="Iam:RemoveKey", targets=targets)
