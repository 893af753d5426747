"""The changes by a copy of the store, as `restore` prints them."""

from collections.abc import Sequence
from typing import Final

from device_app.console.answers import (
    BackupView,
    ChangeView,
    DeviceRestoreAnswer,
    EntryView,
    RestoreAnswer,
    SourceView,
)
from peer.digit_groups import in_groups
from peer.terminal.durations import format_time
from peer.terminal.layout import counted
from peer.terminal.text import on_one_line

_KINDS: Final = (
    ("added", "+", "Comes back:"),
    ("removed", "-", "Is lost:"),
    ("changed", "~", "Changes back:"),
)


def backup_lines(view: BackupView) -> list[str]:
    """A backup that was written."""
    held = ", ".join(
        [
            counted(view["users"], "user"),
            counted(view["keys"], "key"),
            counted(view["invites"], "invite"),
            counted(len(view["settings"]), "settings file"),
            counted(len(view["policies"]), "policy file"),
        ]
    )
    return [
        f"backup of {on_one_line(view['name'])} ({view['id']}): {held}",
        f"written to {on_one_line(view['file'])}",
        "The device's key is in it, sealed with the passphrase.",
        *_modules_lines(view["modules"]),
    ]


def _modules_lines(modules: Sequence[str]) -> list[str]:
    if not modules:
        return []
    return [f"Not in it: the modules {on_one_line(', '.join(modules))}. Copy them yourself."]


def sealed_lines(device_id: str, made: int) -> list[str]:
    """A sealed backup, before its passphrase is known; none of this is certain yet."""
    return [f"backup of the device {device_id}, made {format_time(made)}"]


def device_lines(answer: DeviceRestoreAnswer, *, most_users: int) -> list[str]:
    """The contents of a backup that is restored as a whole, and what it changes on this device.

    Lists `most_users` users at most.
    """
    found = [f"copy: {on_one_line(answer['copy'])}"]
    if (source := answer.get("backup")) is not None:
        found.append(_source_line(source))
        if answer["has_key"] and not source["is_this"]:
            found.append("This board gets the key of that device, and takes its place.")
    users = answer["users"]
    found.append(f"Users and keys of that time ({counted(len(users), 'user')}):")
    for user in users[:most_users]:
        found.append(f"  user {on_one_line(user['name'])}: {on_one_line(user['role'])}")
        found += [f"    key {in_groups(key)}" for key in user["keys"]]
    if len(users) > most_users:
        found.append(f"  and {len(users) - most_users} more (--json lists all)")
    found += _change_lines(answer["changes"])
    if answer["invites"]:
        found.append(f"Withdrawn: {counted(answer['invites'], 'invite')}.")
    named = [*answer["settings"], *(f"policy.d/{name}" for name in answer["policies"])]
    if named:
        found.append(f"Settings and policies: {on_one_line(', '.join(named))}")
    found += [f"  kept as {on_one_line(path)}.before-restore" for path in answer["moved"]]
    return found + _modules_lines(answer["modules"])


def _source_line(source: SourceView) -> str:
    made = format_time(source["made"])
    return f"made {made} on {on_one_line(source['name'])} ({source['id']})"


def restore_lines(answer: RestoreAnswer) -> list[str]:
    """What restoring the copy changes: + added, - removed, ~ changed, ? only known by the mark."""
    found = [f"copy: {on_one_line(answer['copy'])}"]
    if (source := answer.get("backup")) is not None:
        found.append(_source_line(source))
        if not source["is_this"]:
            found.append("This is a backup of another device. Its users get access to this one.")
    if answer["damaged"]:
        found.append("This copy is damaged. Check every line.")
    changes = _change_lines(answer["changes"])
    found += changes
    found += [f"  ? {_entry(entry)}  (only in the mark)" for entry in answer["missing"]]
    if not changes and not answer["missing"]:
        found.append("  It equals the store in force.")
    return found


def _change_lines(changes: Sequence[ChangeView]) -> list[str]:
    """The changes by kind, under the title of each."""
    found: list[str] = []
    for kind, sign, title in _KINDS:
        listed = [change for change in changes if change["change"] == kind]
        found += [title] if listed else []
        for change in listed:
            is_sure = change.get("marked", True)
            doubt = "" if is_sure else "  (the mark says: removed or changed since then)"
            found.append(f"  {sign} {_entry(change)}{doubt}{_ended(change)}")
    return found


def _ended(change: ChangeView) -> str:
    """When and how what comes back has ended."""
    end = change.get("ended")
    if end is None:
        return ""
    by = f" by {on_one_line(end['by'])}" if "by" in end else ""
    return f"  ({end['how']} {format_time(end['at'])}{by})"


def _entry(entry: EntryView) -> str:
    match entry["kind"]:
        case "user":
            was = f", now {on_one_line(entry['was'])}" if "was" in entry else ""
            return f"user {on_one_line(entry['name'])}: {on_one_line(entry['role'])}{was}"
        case "key":
            return f"key {in_groups(entry['fingerprint'])} of {on_one_line(entry['user'])}"
        case "invite":
            return (
                f"invite {entry['id'][:8]} for {on_one_line(entry['name'])}: "
                f"{on_one_line(entry['role'])}"
            )
        case "label":
            return "the label"
