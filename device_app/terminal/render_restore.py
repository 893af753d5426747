"""The changes by a copy of the store, as `restore` prints them."""

from typing import Final

from device_app.console.answers import BackupView, ChangeView, EntryView, RestoreAnswer
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
        ]
    )
    key = (
        "The device's key is in it, sealed with the passphrase."
        if view["has_key"]
        else "The device's key is not in it (--with-key)."
    )
    return [
        f"backup of {on_one_line(view['name'])} ({view['id']}): {held}",
        f"written to {on_one_line(view['file'])}",
        key,
    ]


def restore_lines(answer: RestoreAnswer) -> list[str]:
    """What restoring the copy changes: + added, - removed, ~ changed, ? only known by the mark."""
    found = [f"copy: {on_one_line(answer['copy'])}"]
    if (source := answer.get("backup")) is not None:
        found.append(
            f"made {format_time(source['made'])} on {on_one_line(source['name'])} ({source['id']})"
        )
        if not source["is_this"]:
            found.append("This is a backup of another device. Its users get access to this one.")
    if answer["damaged"]:
        found.append("This copy is damaged. Check every line.")
    changes = False
    for kind, sign, title in _KINDS:
        listed = [change for change in answer["changes"] if change["change"] == kind]
        if listed:
            found.append(title)
        for change in listed:
            changes = True
            doubt = "" if change["marked"] else "  (the mark says: removed or changed since then)"
            found.append(f"  {sign} {_entry(change)}{doubt}{_ended(change)}")
    found += [f"  ? {_entry(entry)}  (only in the mark)" for entry in answer["missing"]]
    if not changes and not answer["missing"]:
        found.append("  It equals the store in force.")
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
