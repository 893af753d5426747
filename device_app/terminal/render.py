"""What the command line prints: data on stdout, talk on stderr; with `--json`, JSON lines."""

import contextlib
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from device_app.terminal.render_pairing import label_line, lock_lines
from peer.identity import Fingerprint
from peer.terminal import layout
from peer.terminal.durations import format_duration, format_time, format_time_from
from peer.terminal.layout import counted, table
from peer.terminal.text import json_text, on_lines, on_one_line

SCHEMA = 1


def data(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    print(json_text({"schema": SCHEMA, **value}), flush=True)


def lines(text: Iterable[str]) -> None:
    """Data for people on stdout."""
    for line in text:
        print(line, flush=True)


def talk(text: str = "", *, end: str = "\n") -> None:
    """A word to the person, on stderr. A terminal that has gone must not hold up what goes on."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, end=end, flush=True)


def failure(message: str, advice: str) -> None:
    """An error: what happened, and what to do next."""
    talk(f"error: {on_lines(message)}")
    if advice:
        talk(f"  {on_lines(advice)}")


def fingerprint_lines(value: Mapping[str, Any]) -> list[str]:
    """The device's id and fingerprint, for people to compare."""
    fingerprint = Fingerprint.parse(value["fingerprint"])
    return [
        f"id           {fingerprint.device_id}",
        *layout.fingerprint_lines("fingerprint  ", fingerprint),
    ]


def banner_lines(status: Mapping[str, Any]) -> list[str]:
    """What `run` says when it is ready."""
    users = status["users"]
    return [
        f"name         {status['name']}",
        *fingerprint_lines(status),
        f"listening    {', '.join(status['addresses'])}",
        f"users        {len(users) or 'none yet: the first to pair becomes the owner'}",
        f"window       {_window(status['window'])}",
    ]


def user_lines(user: Mapping[str, Any], now: float) -> list[str]:
    """One user with all keys."""
    shown = f" ({user['display']})" if user.get("display") else ""
    found = [f"{user['name']}{shown}: {user['role']}"]
    for field, words in (
        ("not_before", "from"),
        ("not_after", "until"),
        ("last_seen", "last seen"),
    ):
        if field in user:
            found.append(f"  {words} {format_time_from(user[field], now)}")
    for key in user["keys"]:
        name = f" {key['name']!r}" if key["name"] else ""
        sure = "" if key["verified"] else ", *unverified*"
        seen = f", last seen {format_time(key['last_seen'])}" if "last_seen" in key else ""
        found.append(f"  {key['fingerprint']}{name} ({key['method'] or 'unknown'}{sure}{seen})")
    return found


def users_lines(users: list[Mapping[str, Any]], now: float) -> list[str]:
    """Everybody, one a line."""
    if not users:
        return ["nobody is paired yet"]
    rows = [
        (user["name"], user["role"], counted(len(user["keys"]), "key"), *_notes_of(user, now))
        for user in users
    ]
    return table(rows)


def _notes_of(user: Mapping[str, Any], now: float) -> list[str]:
    """What deserves a word in a list: keys that nobody has compared, when the user is none, and
    when they were last here."""
    notes = []
    if not all(key["verified"] for key in user["keys"]):
        notes.append("*unverified*")
    if now < user.get("not_before", now):
        notes.append(f"from {format_time(user['not_before'])}")
    if "not_after" in user:
        ended = "ended" if user["not_after"] <= now else "until"
        notes.append(f"{ended} {format_time(user['not_after'])}")
    if "last_seen" in user:
        notes.append(f"seen {format_duration(max(0.0, now - user['last_seen']))} ago")
    return [", ".join(notes)]


def status_lines(status: Mapping[str, Any]) -> list[str]:
    """`status` for people."""
    found = [f"name         {status['name']}", *fingerprint_lines(status)]
    if not status["running"]:
        found += ["daemon       not running", f"users        {len(status['users'])}"]
        return [*found, *_store_lines(status["store"])]
    window = status["window"]
    found += [
        f"daemon       process {status['pid']}, up {format_duration(status['uptime_seconds'])}",
        f"listening    {', '.join(status['addresses'])}",
        f"window       {_window(window)}",
        *([f"code         {window['code']}"] if "code" in window else []),
        *([f"failures     {status['failures']} since the last pairing"] * bool(status["failures"])),
        *(f"{' ' * 13}{line}" for line in lock_lines(window)),
        f"label        {_label(status)}",
        f"pending      {len(status['pending'])}",
        f"users        {', '.join(u['name'] for u in status['users']) or 'none yet'}",
        f"sessions     {len(status['sessions'])}",
    ]
    for session in status["sessions"]:
        who = session["user"] or "unpaired"
        found.append(
            f"  {who} at {session['address']} ({'local' if session['local'] else 'remote'},"
            f" idle {format_duration(session['idle_seconds'])})"
        )
    counted = sum(map(Counter, status["counters"].values()), Counter[str]())
    if counted:
        found.append(f"counted      {', '.join(f'{k} {n}' for k, n in sorted(counted.items()))}")
    if "policy" in status:
        found.append(f"policy       {_policy(status['policy'])}")
    clock = status.get("clock", {})
    if not clock.get("known", True) and not clock.get("trouble"):
        found.append("clock        not set: limits of time go by the last time known")
    for trouble in (
        status.get("policy", {}).get("trouble"),
        window.get("trouble"),
        clock.get("trouble"),
    ):
        if trouble:
            found.append(f"trouble      {trouble}")
    return [*found, *_store_lines(status["store"])]


def _store_lines(store: Mapping[str, Any]) -> list[str]:
    recovery = store.get("recovery") or {}
    troubles = (store["trouble"], recovery.get("why"))
    return [f"trouble      {trouble}" for trouble in troubles if trouble]


def restore_lines(value: Mapping[str, Any]) -> list[str]:
    """What restoring a copy of the store would change."""
    found = [f"copy: {on_one_line(value['copy'])}"]
    if value["damaged"]:
        found.append("This copy is damaged: look at every line.")
    for one in value["changes"]:
        sign = {"added": "+", "removed": "-", "changed": "~"}[one["change"]]
        doubt = "" if one["marked"] else "  (the mark says: taken away or changed since)"
        found.append(f"  {sign} {_entry(one)}{doubt}")
    found += [f"  ? {_entry(one)}  (only the mark has this)" for one in value["missing"]]
    return found if len(found) > 1 else [*found, "  It holds what is in force already."]


def _entry(one: Mapping[str, Any]) -> str:
    """A user, a key, an invite or the label, in a line about a copy."""
    match one["kind"]:
        case "user":
            was = f", now {on_one_line(one['was'])}" if "was" in one else ""
            return f"user {on_one_line(one['name'])}: {on_one_line(one['role'])}{was}"
        case "key":
            return f"key {one['fingerprint']} of {on_one_line(one['user'])}"
        case "invite":
            return (
                f"invite {one['id'][:8]} for {on_one_line(one['name'])}: {on_one_line(one['role'])}"
            )
        case _:
            return "the label"


def _label(status: Mapping[str, Any]) -> str:
    return label_line(status["label"], can_be=status.get("board", {}).get("label", True))


def _policy(policy: Mapping[str, Any]) -> str:
    if not policy["files"]:
        return "built in"
    return f"{counted(len(policy['files']), 'file')}, {policy['digest'][:16]}"


def _window(window: Mapping[str, Any]) -> str:
    if window["open"]:
        left = format_duration(window["seconds_left"])
        return f"open for {left}, port {window['port']}, role {window['role']}"
    if window.get("trouble"):
        return "closed, and it cannot be opened (`handfast-device health` says why)"
    return "closed (`handfast-device open` opens it)"


# -- invites --------------------------------------------------------------------------------------


def invite_lines(invite: Mapping[str, Any], now: float) -> list[str]:
    """What to say beside a token."""
    uses, expires = counted(invite["uses"], "use"), format_time_from(invite["expires"], now)
    found = [
        f"For {invite['name']} as {invite['role']}, {uses}; id {invite['id'][:8]}.",
        f"It is good until {expires}.",
    ]
    if "not_after" in invite:
        found.append(f"Their access ends {format_time_from(invite['not_after'], now)}.")
    if "key" in invite:
        found.append(f"Only for the key {invite['key']}.")
    return [*found, "Whoever has it can use it: handfast pair <invite>. It is not shown again."]


def invites_lines(invites: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    """Every invite, one a line."""
    if not invites:
        return ["no invites"]
    return table(
        [
            (
                one["id"][:8],
                one["name"],
                one["role"],
                counted(one["uses"], "use"),
                f"by {one['inviter'] or 'the console'}",
                f"until {format_time_from(one['expires'], now)}"
                + (", one key only" * ("key" in one)),
            )
            for one in invites
        ]
    )


# -- policy ---------------------------------------------------------------------------------------


def policy_check_lines(value: Mapping[str, Any]) -> list[str]:
    """`policy check` that found nothing wrong."""
    return [f"right: {counted(len(value['files']), 'file')}; roles {', '.join(value['roles'])}"]


def policy_reload_lines(value: Mapping[str, Any]) -> list[str]:
    """What is in force now."""
    changed = ", ".join(value["changed_roles"]) or "none"
    lines = [f"in force: {_policy(value)}; roles with other rights: {changed}"]
    if waiting := value["restart_needed"]:
        lines.append(f"restart the device to apply: {', '.join(waiting)}")
    return lines


def policy_list_lines(value: Mapping[str, Any]) -> list[str]:
    """Roles, then policies with their statements."""
    found = [
        f"role {one['id']} (rank {one['rank']}): {', '.join(one['policies']) or 'no policies'}"
        for one in value["roles"]
    ]
    for one in value["policies"]:
        found.append(f"policy {one['id']}" + (": no statements" if not one["statements"] else ""))
        for number, statement in enumerate(one["statements"], 1):
            found.append(f"  {number} {statement['effect']} {', '.join(statement['actions'])}")
            found += [f"      if {_condition(each)}" for each in statement.get("conditions", ())]
    return found


def _condition(condition: Mapping[str, Any]) -> str:
    values = " or ".join(map(repr, condition["values"]))
    return f"{condition['attribute']} {condition['operator']} {values}"


def explain_lines(value: Mapping[str, Any]) -> list[str]:
    """The decision, or what it depends on; its reason, and every statement that had a say."""
    verdict = "depends" if value["depends"] else "allowed" if value["allowed"] else "denied"
    found = [f"{verdict}: {value['reason']}"]
    for step in value["steps"]:
        applies = "applies" if step["applies"] else "does not apply"
        if step["depends"]:
            applies = f"may apply, by {', '.join(step['depends'])}"
        found.append(
            f"  policy {step['policy']!r}, statement {step['statement']}: {step['effect']}"
            f" {applies}" + (f": {on_one_line(step['why'])}" if step["why"] else "")
        )
    if value["missing"]:
        found.append(f"The user is told: {value['missing']}")
    return found


def imported_lines(value: Mapping[str, Any], added: Sequence[str]) -> list[str]:
    """The users of an import, as comments of the policy file that stands before them."""
    return [
        f"# user {on_one_line(user['name'])}: {on_one_line(user['role'])}, "
        + counted(len(user["keys"]), "key")
        + (", added" if user["name"] in added else "")
        for user in value["users"]
    ]


# -- events and time ------------------------------------------------------------------------------

_WHO = ("actor", "user", "role", "method", "action", "result", "detail")
_WHERE = ("fingerprint", "address", "interface", "hop_limit")


def event_line(event: Mapping[str, Any]) -> str:
    """One event: number, when, what, and whatever else is known of it."""
    said = [f"{field}={_word(event[field])}" for field in (*_WHO, *_WHERE) if field in event]
    kind = on_one_line(event["kind"])
    when = format_time(event["wall"], with_seconds=True)
    return f"{event['seq']:>6}  {when}  {kind}  {' '.join(said)}"


def _word(value: object) -> str:
    text = on_one_line(str(value))
    return f'"{text}"' if " " in text or not text else text


def clock_lines(value: Mapping[str, Any]) -> list[str]:
    """The device's time and the system's."""
    found = [
        f"device  {format_time(value['now'], with_seconds=True)}",
        f"system  {format_time(value['system'], with_seconds=True)}",
    ]
    if value["trouble"]:
        found.append(f"Doubtful: {value['trouble']}.")
    if not value["known"]:
        found.append(
            "The system's clock is not to be believed: conditions on the time do not hold."
        )
    if value["trouble"] or not value["known"]:
        found.append("If it is right, say so: handfast-device clock --trust-system")
    return found
