"""Write a manual page for each verb of both commands: `man_pages.py FOLDER VERSION DATE`.

The text is that of `--help`, taken from click's own records, so that page and help cannot differ.
"""

import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from client_app.cli import main as handfast
from device_app.cli import main as handfast_device
from peer.terminal.exit_codes import EXIT_CODE_MEANINGS

COMMANDS: Final = {"handfast": handfast, "handfast-device": handfast_device}

_ESCAPES: Final = str.maketrans(
    {
        "\\": r"\[rs]",
        "-": r"\-",
        '"': r"\[dq]",
        "'": r"\[aq]",
        "`": r"\[ga]",
        "^": r"\[ha]",
        "~": r"\[ti]",
    }
)

_FILES: Final = {
    "handfast-device": (
        ("/etc/handfast/device.toml", "Settings. All of them are optional."),
        ("/etc/handfast/device.d/, policy.d/, modules/", "More settings, policies and modules."),
        ("/var/lib/handfast/", "The key of the device and its store. Back it up."),
        ("/run/handfast/control.sock", "The control socket of the running daemon."),
    ),
    "handfast": (
        ("~/.config/handfast/", "The key of this client and the devices that it is paired with."),
    ),
}


def roff(text: str) -> str:
    """Escape text for groff: no character of it is taken as a request or is changed."""
    escaped = text.translate(_ESCAPES)
    escaped = "".join(one if one.isascii() else rf"\[u{ord(one):04X}]" for one in escaped)
    return rf"\&{escaped}" if escaped.startswith(".") else escaped


@dataclass(frozen=True)
class Command:
    """A command with the names that lead to it, such as `handfast`, `users`, `add`."""

    names: tuple[str, ...]
    command: click.Command
    context: click.Context

    @property
    def page(self) -> str:
        """The name of its page, without the section."""
        return "-".join(self.names)

    @property
    def verbs(self) -> "list[Command]":
        """The commands below it."""
        if not isinstance(self.command, click.Group):
            return []
        found = []
        for name in self.command.list_commands(self.context):
            below = self.command.get_command(self.context, name)
            if below is not None and not below.hidden:
                context = click.Context(below, self.context, info_name=name)
                found.append(Command((*self.names, name), below, context))
        return found

    @property
    def summary(self) -> str:
        """The first sentence of its help, without the full stop."""
        first = inspect.cleandoc(self.command.help or "").partition("\n\n")[0]
        return " ".join(first.split()).partition(". ")[0].removesuffix(".")


def commands() -> Iterator[Command]:
    """Yield both programs and all of their verbs."""
    waiting = [
        Command(
            (name,), command, click.Context(command, info_name=name, **command.context_settings)
        )
        for name, command in COMMANDS.items()
    ]
    while waiting:
        current = waiting.pop(0)
        yield current
        waiting += current.verbs


def page(command: Command, version: str, date: str) -> str:
    """Return the manual page of a command in roff."""
    title = roff(command.page.upper())
    lines = [f'.TH {title} 1 "{date}" "handfast {roff(version)}" "handfast"', ".nh", ".ad l"]
    lines += [".SH NAME", rf"{roff(command.page)} \- {roff(command.summary)}", ".SH SYNOPSIS"]
    usage = " ".join(command.command.collect_usage_pieces(command.context))
    lines += [f".B {roff(command.context.command_path)}", roff(usage.replace("...]...", "...]"))]
    lines += [".SH DESCRIPTION", *_paragraphs(command)]
    if verbs := command.verbs:
        lines += [".SH COMMANDS"]
        for verb in verbs:
            lines += [".TP", rf".BR {roff(verb.page)} (1)", f"{roff(verb.summary)}."]
    lines += [".SH OPTIONS", *_options(command)]
    if example := getattr(command.command, "example", ""):
        lines += [".SH EXAMPLES", *_literal(example.splitlines())]
    lines += [".SH EXIT STATUS"]
    for code, meaning in EXIT_CODE_MEANINGS.items():
        lines += [".TP", rf".B {code:d}", roff(meaning)]
    if files := _FILES.get(command.page):
        lines += [".SH FILES"]
        for path, meaning in files:
            lines += [".TP", f".I {roff(path)}", roff(meaning)]
    others = {*(command.names[:1]), "-".join(command.names[:-1]), *COMMANDS} - {command.page, ""}
    lines += [".SH SEE ALSO", ",\n".join(rf".BR {roff(one)} (1)" for one in sorted(others))]
    return "\n".join(lines) + "\n"


def _paragraphs(command: Command) -> Iterator[str]:
    r"""Yield the help text; click marks paragraphs that keep their lines with `\b`."""
    for number, paragraph in enumerate(inspect.cleandoc(command.command.help or "").split("\n\n")):
        if number:
            yield ".PP"
        if paragraph.startswith("\b\n"):
            yield from _literal(paragraph[2:].splitlines())
        else:
            yield roff(" ".join(paragraph.split()))


def _options(command: Command) -> Iterator[str]:
    for param in command.command.get_params(command.context):
        record = param.get_help_record(command.context)
        if record is not None and isinstance(param, click.Option):
            yield from (".TP", f".B {roff(record[0])}", roff(" ".join(record[1].split())))


def _literal(lines: Sequence[str]) -> list[str]:
    return [".PP", ".EX", *map(roff, lines), ".EE"]


def write(folder: Path, version: str, date: str) -> list[Path]:
    """Write all pages to a folder and return their paths."""
    written = []
    for command in commands():
        path = folder / f"{command.page}.1"
        path.write_text(page(command, version, date), encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    write(Path(sys.argv[1]), *sys.argv[2:4])
