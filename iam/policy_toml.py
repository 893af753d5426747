"""Roles and policies as the text of a policy file. `iam.config` reads such a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from json import dumps

from iam.builtin import POLICIES, ROLES
from iam.policy import Policy, Role


def to_toml(roles: Iterable[Role], policies: Iterable[Policy]) -> str:
    """Return a file that `load` reads as these roles and policies; built-in ones are left out."""
    built_in = {*ROLES, *POLICIES}
    lines = [line for one in policies if one not in built_in for line in _policy_lines(one)]
    for role in roles:
        if role not in built_in:
            lines += ["[[role]]", f"id = {_quoted(role.id)}", f"rank = {role.rank}"]
            lines += [f"policies = {_list(role.policies)}", ""]
    return "\n".join(lines)


def _policy_lines(policy: Policy) -> Iterator[str]:
    yield from ("[[policy]]", f"id = {_quoted(policy.id)}", "")
    for statement in policy.statements:
        yield "[[policy.statement]]"
        yield f"effect = {_quoted(statement.effect)}"
        yield f"actions = {_list(statement.actions)}"
        if statement.conditions:
            yield "conditions = ["
            for one in statement.conditions:
                compared = f"{_quoted(one.attribute)} = {_list(one.values)}"
                yield f"    {{ {one.operator} = {{ {compared} }} }},"
            yield "]"
        yield ""


def _list(texts: Iterable[str]) -> str:
    found = [_quoted(text) for text in texts]
    if sum(map(len, found)) < 80:
        return f"[{', '.join(found)}]"
    return "\n".join(["[", *(f"    {one}," for one in found), "]"])


def _quoted(text: str) -> str:
    # TOML has JSON's escapes; but DEL needs one too, and two \u never make one symbol.
    return dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
