"""Roles, policies and decisions, as `handfast-device` prints them."""

from collections.abc import Iterable, Sequence

from device_app.access.bodies import UserRequest
from device_app.access.explaining import ConditionView, PolicyExplanation, PolicyList
from device_app.access.policies import PolicyCheck, PolicyFiles
from device_app.console.reloader import PolicyReloadAnswer
from peer.terminal.layout import counted
from peer.terminal.text import on_one_line


def policy_files(policy: PolicyFiles) -> str:
    """The policy files in force, in short."""
    if not policy["files"]:
        return "built in"
    return f"{counted(len(policy['files']), 'file')}, digest {policy['digest'][:16]}"


def policy_check_lines(check: PolicyCheck) -> list[str]:
    """The answer of `policy check`, which found no error."""
    return [f"no errors: {counted(len(check['files']), 'file')}; roles {', '.join(check['roles'])}"]


def policy_reload_lines(answer: PolicyReloadAnswer) -> list[str]:
    """The answer of `policy reload`."""
    changed = ", ".join(answer["changed_roles"]) or "none"
    lines = [f"in force: {policy_files(answer)}; roles whose rights changed: {changed}"]
    if waiting := answer["restart_needed"]:
        lines.append(f"Restart the daemon to apply: {', '.join(waiting)}")
    return lines


def policy_list_lines(answer: PolicyList) -> list[str]:
    """Roles, then policies with their statements."""
    found = [
        f"role {role['id']} (rank {role['rank']}): {', '.join(role['policies']) or 'no policies'}"
        for role in answer["roles"]
    ]
    for policy in answer["policies"]:
        statements = policy["statements"]
        found.append(f"policy {policy['id']}" + ("" if statements else ": no statements"))
        for number, statement in enumerate(statements, 1):
            found.append(f"  {number} {statement['effect']} {', '.join(statement['actions'])}")
            found += [f"      if {_condition(one)}" for one in statement.get("conditions", ())]
    return found


def _condition(condition: ConditionView) -> str:
    values = " or ".join(map(repr, condition["values"]))
    return f"{condition['attribute']} {condition['operator']} {values}"


def explain_lines(answer: PolicyExplanation) -> list[str]:
    """The decision with its reason, and all statements that apply or may apply."""
    decision = "allowed" if answer["allowed"] else "denied"
    found = [f"{'depends' if answer['depends'] else decision}: {answer['reason']}"]
    for step in answer["steps"]:
        applies = "applies" if step["applies"] else "does not apply"
        if step["depends"]:
            applies = f"may apply, depending on {', '.join(step['depends'])}"
        found.append(
            f"  policy {step['policy']!r}, statement {step['statement']}: {step['effect']}"
            f" {applies}" + (f": {on_one_line(step['why'])}" if step["why"] else "")
        )
    if answer["missing"]:
        found.append(f"The user is told: {answer['missing']}")
    return found


def import_lines(users: Iterable[UserRequest], added: Sequence[str]) -> list[str]:
    """The users of an import, as comments below the policy file that is printed."""
    return [
        f"# user {on_one_line(user.name)}: {on_one_line(user.role)}, "
        + counted(len(user.keys), "key")
        + (", added" if user.name in added else "")
        for user in users
    ]
