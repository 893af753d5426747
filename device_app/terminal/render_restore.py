"""The changes by a copy of the store, as `restore` prints them."""

from device_app.console.answers import EntryView, RestoreAnswer
from peer.digit_groups import in_groups
from peer.terminal.text import on_one_line


def restore_lines(answer: RestoreAnswer) -> list[str]:
    """What restoring the copy changes: + added, - removed, ~ changed, ? only known by the mark."""
    found = [f"copy: {on_one_line(answer['copy'])}"]
    if answer["damaged"]:
        found.append("This copy is damaged. Check every line.")
    for change in answer["changes"]:
        sign = {"added": "+", "removed": "-", "changed": "~"}[change["change"]]
        doubt = "" if change["marked"] else "  (the mark says: removed or changed since then)"
        found.append(f"  {sign} {_entry(change)}{doubt}")
    found += [f"  ? {_entry(entry)}  (only in the mark)" for entry in answer["missing"]]
    return found if len(found) > 1 else [*found, "  It equals the store in force."]


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
