"""Private terms and riddles are refused by a word list for identifiers and one for prose.

`python -m tests.docs.test_words [ROOT...]` prints every hit of the given roots, or of all, with the
replacement. An entry is an exact pattern, the reason why it is on the list, and what to write.
Names that others have chosen (a library's method that is overridden) are in `ALLOWED`.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGES = ("handfast", "peer", "iam", "device_app", "client_app")
FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """One entry of a list: a pattern, why it must not occur, and what to write."""

    pattern: str
    why: str
    instead: str

    def hits(self, text: str) -> Iterator[str]:
        """Each occurrence in a text."""
        flags = 0 if self.pattern.startswith("(?-i)") else re.IGNORECASE
        pattern = self.pattern.removeprefix("(?-i)")
        yield from (found[0] for found in re.finditer(pattern, text, flags))


METAPHOR = "a private metaphor, which no one can search for"
RIDDLE = "a riddle: the sentence does not name its subject"
PERSON = "personification, or spoken language"
ARCHAIC = "translated or archaic English"
VAGUE = "a name that does not say which data it is"

NAMES = [
    Entry(r"dice", METAPHOR, "random_bytes"),
    Entry(r"plates?", METAPHOR, "stored_label"),
    Entry(r"damper|damped|dampen(ed)?", METAPHOR, "log_limiter, event_budget, limited"),
    Entry(r"knock(s|ed|ing)?", METAPHOR, "connect_pairing_port"),
    Entry(r"doors?", METAPHOR, "pairing_service, port, rules"),
    Entry(r"weather|luck", METAPHOR, "a word that says what varies: loss, chance"),
    Entry(r"asker|asking_one", VAGUE, "subject"),
    Entry(r"wish(es)?", VAGUE, "request, patch, body"),
    Entry(
        r"whoever|whomever|somebody|nobody|everybody|anybody", RIDDLE, "the role: user, key, client"
    ),
    Entry(r"came_by|come_by", VAGUE, "path, note_path"),
    Entry(r"untold|told", VAGUE, "notified, reported"),
    Entry(r"sightings?", METAPHOR, "last_seen"),
    Entry(r"lapsed?|lapses", VAGUE, "access_period, inactive"),
    Entry(r"news", METAPHOR, "events, pairing_event"),
    Entry(r"standings?", METAPHOR, "session_priority"),
    Entry(r"moments", VAGUE, "durations, times"),
    Entry(r"(?<!systemd_)journal", "two words for one thing", "audit"),
    Entry(r"patience", METAPHOR, "timeout_seconds"),
    Entry(r"beckon|bring|shut", METAPHOR, "reconcile, schedule_close, close"),
]
"""Parts of identifiers, after `CamelCase` has become `camel_case`."""

EXACT = [
    Entry(r"(?-i)Places?", VAGUE, "Paths, HostPort, TomlNode"),
    Entry(r"(?-i)Opening", VAGUE, "WindowTimer"),
    Entry(r"(?-i)Verdict", "three meanings", "LocalityVerdict, CheckResult"),
    Entry(r"(?-i)Means|Given|Race|Form|News|Standing|Lapse", VAGUE, "a name that says which data"),
]
"""Whole identifiers."""

PROSE = [
    Entry(r"\b(whoever|whomever)\b", RIDDLE, "anyone who, the user who, a client that"),
    Entry(r"\bnobody\b", PERSON, "no one, no user, or the passive voice"),
    Entry(r"\bsomebody\b", PERSON, "someone, a user, an attacker"),
    Entry(r"\beverybody\b", PERSON, "everyone, all users, other users"),
    Entry(r"\banybody\b", PERSON, "anyone, any host"),
    Entry(
        r"(?-i)(?:^|(?<=[.:;!] ))Who (?![^.\n]*\?)(?!may do what\b)",
        RIDDLE,
        "name the subject: a user who, a client that",
    ),
    Entry(
        r"(?-i)(?:^|(?<=[.;!] ))What(?:ever)? (?:comes|can|cannot|does|is|has|goes|stands|was) "
        r"(?![^.\n]*\?)",
        RIDDLE,
        "name the subject: data that, a request that",
    ),
    Entry(r"\bwhat (?:is|are) (?:no|none)\b", RIDDLE, "anything else, an invalid value"),
    Entry(r"\b(?:goes|go|going|went) on\b(?! (?:the|an?)\b)", PERSON, "continues"),
    Entry(r"\b(?:makes?|made|making) way\b", METAPHOR, "is evicted, yields its slot"),
    Entry(r"\bfrom afar\b|\bfar away\b", ARCHAIC, "remotely, from another network"),
    Entry(r"\bon paper\b", METAPHOR, "offline, as a dry run"),
    Entry(
        r"\b(?:says?|saying|said|hear[sd]?|with(?:out)?) (?:a |the )?goodbye\b(?! packet)",
        PERSON,
        "sends close_notify, sends a goodbye packet",
    ),
    Entry(r"\b(?:luck|bad weather|good weather)\b", METAPHOR, "chance; loss and reordering"),
    Entry(r"\bdice\b", METAPHOR, "a random source, random bytes"),
    Entry(r"\bdamp(?:s|ed|er|en|ens|ened)\b", METAPHOR, "limits, limited, limiter"),
    Entry(r"\bknock(?:s|ed|ing)?\b", METAPHOR, "connects to the pairing port"),
    Entry(r"\bthe plate\b|\bplates\b", METAPHOR, "the stored label"),
    Entry(r"\baskers?\b", VAGUE, "the subject, the requester"),
    Entry(r"\bpairing door\b|\bthe door\b", METAPHOR, "the pairing port, the pairing service"),
    Entry(r"\bfor ever\b", ARCHAIC, "without limit, indefinitely"),
    Entry(r"\bworth nothing\b", METAPHOR, "invalid, not valid any more"),
    Entry(r"\b(?:cannot|can|could|to) be had\b", ARCHAIC, "is (not) available, cannot be bound"),
    Entry(r"\bstands (?!for\b|still\b)", ARCHAIC, "is, is written, is stored"),
    Entry(r"\b(?:talk(?:ed|s)?) away\b|\bshown out\b|\bshut out\b", METAPHOR, "removed, refused"),
    Entry(r"\bcame by\b|\bcomes? by it\b", ARCHAIC, "the path of the request; arrived on"),
    Entry(r"\banew\b", ARCHAIC, "again, a new one"),
    Entry(r"\bin truth\b|\ball the same\b", ARCHAIC, "in fact, still"),
    Entry(r"\bhardly meant\b|\bin vain\b", ARCHAIC, "probably unintended, without success"),
    Entry(r"\bwhat luck\b|\bjust luck\b", METAPHOR, "the probability"),
    Entry(r"\b(?:is|are|of) ours\b", PERSON, "the role: the client's, handfast's"),
    Entry(r"\bthe kernel's word\b|\bits own word\b", PERSON, "what the kernel reports"),
    Entry(r"\bpatience\b", PERSON, "the timeout"),
    Entry(r"\bgoes? away\b|\bwent away\b", PERSON, "disconnects, ends, is removed"),
    Entry(r"\blies\b(?! (?:in|on|within|between))", PERSON, "forged announcements, wrong values"),
    Entry(r"\bsightings?\b", METAPHOR, "when a key was last seen"),
    Entry(r"\bso many\b(?! that)", ARCHAIC, "the given number of, `count`"),
    Entry(r"\bgo(?:es)? by\b", PERSON, "uses, follows, is based on"),
    Entry(r"\bbecomes? of\b", RIDDLE, "the new state of"),
    Entry(
        r"\bis a must\b|\bas ever\b|\bfor certain\b", PERSON, "is required, unchanged, certainly"
    ),
    Entry(r"\bdead codes?\b|\bcode is dead\b", METAPHOR, "a disabled code"),
    Entry(r"\bin the way\b|\bgets? round\b", METAPHOR, "blocks, circumvents"),
]
"""Phrases in Markdown, docstrings, comments, and string literals of more than one word."""

FRAGMENT = Entry(
    r"(?-i)^(?:What|Whatever|Who|Whoever|Whose|Whom|Which|Where)\b(?![^.]*\?)",
    "a fragment instead of a noun phrase or an imperative",
    "the noun: the data of, the address of, the user who",
)
"""The beginning of a docstring or a comment."""

ALLOWED = {
    ("docs/protocol.md", "goodbye"): "the term of RFC 6762 §10.1",
    ("device_app/console/views.py", "standing"): "a key of `status --json`",
}
"""Hits that stay: (file, hit) with the reason."""


@dataclass(frozen=True)
class Hit:
    """One hit: where it is, and the entry that names it."""

    path: str
    line: int
    text: str
    entry: Entry

    def __str__(self) -> str:
        return (
            f"{self.path}:{self.line}: {self.text!r}: {self.entry.why}; write {self.entry.instead}"
        )


def snake(name: str) -> str:
    """The parts of an identifier in lower case, joined by `_`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_")


def name_hits(name: str) -> Iterator[tuple[str, Entry]]:
    """The entries that an identifier hits."""
    parts = snake(name)
    for entry in NAMES:
        if re.search(rf"(?:^|_)(?:{entry.pattern})(?:_|$)", parts):
            yield name, entry
    for entry in EXACT:
        if re.fullmatch(entry.pattern.removeprefix("(?-i)"), name.strip("_")):
            yield name, entry


def prose_hits(text: str) -> Iterator[tuple[str, Entry]]:
    """The entries that a text hits. Text between backquotes is a name, not prose."""
    plain = re.sub(r"`[^`]*`", "`…`", " ".join(text.split()))
    for entry in PROSE:
        yield from ((hit.strip(), entry) for hit in entry.hits(plain))


def identifiers(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every name that a module defines: classes, functions, arguments, attributes, members."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield node.lineno, name
            case ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name):
                yield node.lineno, name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()):
                yield node.lineno, name
            case _:
                pass


def texts(source: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Docstrings and other literals of more than one word, and blocks of comments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value
    yield from comments(source)


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Blocks of comments, each as one text."""
    block: list[str] = []
    start = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type is tokenize.COMMENT:
            if token.start[0] != last + 1:
                yield start, " ".join(block)
                block, start = [], token.start[0]
            block.append(token.string.lstrip("#: "))
            last = token.start[0]
    yield start, " ".join(block)


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """The paragraphs, list items and table cells of a page, without fenced code."""
    plain = FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
    line = 1
    for part in re.split(r"(\n\n|\n(?=- |\d+\. |\||#)| \| )", plain):
        yield line, part.strip("#|- \n")
        line += part.count("\n")


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every literal that is a statement: docstrings, and those of attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text
            case _:
                pass


def hits(path: Path) -> list[Hit]:
    """Every hit in one file."""
    if path == Path(__file__):
        return []
    where, source = path.relative_to(ROOT).as_posix(), path.read_text()
    found: list[tuple[int, str, Entry]] = []
    if path.suffix == ".py":
        tree = ast.parse(source)
        defined = [(1, path.stem), *identifiers(tree)]
        found += [(line, *hit) for line, name in defined for hit in name_hits(name)]
        for line, text in (*docstrings(tree), *comments(source)):
            found += [(line, hit, FRAGMENT) for hit in FRAGMENT.hits(text)]
        found += [(line, *hit) for line, text in texts(source, tree) for hit in prose_hits(text)]
    else:
        found += [(line, *hit) for line, text in paragraphs(source) for hit in prose_hits(text)]
    return [
        Hit(where, *hit)
        for hit in sorted(set(found), key=lambda hit: hit[:2])
        if (where, hit[1]) not in ALLOWED
    ]


def roots() -> list[str]:
    """Every page, every folder of pages, and every package and test folder."""
    found = [path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *DOCS.glob("*.*")]]
    found += [folder.relative_to(ROOT).as_posix() for folder in DOCS.iterdir() if folder.is_dir()]
    for package in (*PACKAGES, "examples", "packaging", "tests"):
        folders = {path.parent for path in (ROOT / package).rglob("*.py")}
        found += {"/".join(folder.relative_to(ROOT).parts[:2]) for folder in folders}
    return sorted(found)


def files(root: str) -> list[Path]:
    """The files of a root. A package by itself is its modules; its folders are roots too."""
    path = ROOT / root
    if path.is_file():
        return [path]
    pattern = "*.py" if root in {*PACKAGES, "examples", "packaging", "tests"} else "**/*.py"
    return sorted([*path.glob(pattern), *path.glob("*.md")])


@pytest.mark.parametrize("root", roots())
def test_identifiers_and_prose_have_no_listed_term(root: str) -> None:
    found = [hit for path in files(root) for hit in hits(path)]
    assert "\n".join(map(str, found)) == ""


@pytest.mark.parametrize(
    "name", ["_Wish", "PairingDoor", "door", "came_by", "PATIENCE", "Place", "_told", "is_news"]
)
def test_a_listed_name_is_found(name: str) -> None:
    assert list(name_hits(name))


@pytest.mark.parametrize(
    "name", ["doorbell", "place_order", "Placement", "indoors", "withstanding"]
)
def test_a_name_that_only_contains_a_listed_one_is_accepted(name: str) -> None:
    assert not list(name_hits(name))


@pytest.mark.parametrize(
    "text",
    [
        "Nobody reads it.",
        "It ends. Who cannot come gets an invite.",
        "What comes from nowhere known must be a ClientHello.",
        "The session says goodbye.",
        "The observation goes on.",
        "what is no fingerprint is refused",
    ],
)
def test_a_riddle_is_found(text: str) -> None:
    assert list(prose_hits(text))


@pytest.mark.parametrize(
    "text",
    [
        "Who can read it?",
        "A goodbye packet ends the announcement.",
        "`nobody` is a user of the system.",
        "The name goes on the label. CID stands for connection ID.",
    ],
)
def test_a_plain_sentence_is_accepted(text: str) -> None:
    assert not list(prose_hits(text))


def main(arguments: Sequence[str]) -> None:
    """Print the hits of roots."""
    for root in arguments or roots():
        for path in files(root):
            for hit in hits(path):
                print(hit)


if __name__ == "__main__":
    main(sys.argv[1:])
