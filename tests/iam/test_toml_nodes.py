"""Parsing of TOML for policies: values and their lines."""

from __future__ import annotations

import tomllib
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from iam.config import load
from iam.errors import PolicyFileError
from iam.toml_nodes import TomlNode, read
from tests.iam.policy_files import GOOD

# ------------------------------------------------------------------------------ lines of any TOML


def plain(place: TomlNode) -> Any:
    if isinstance(place.value, dict):
        return {key: plain(found) for key, found in place.value.items()}
    if isinstance(place.value, list):
        return [plain(found) for found in place.value]
    return place.value


HARD = r"""
top = 1 # [not a list
"quoted # key" = 'a "b" ] }'
"esc\u0041pe".deep.er = QQQ
[[policy]] not here
QQQ
'lit.eral' = [ 1, [2, 3,], # ]
  "x,]", QQQa
bQQQ, LLLc
'dLLL'' ,
]
dates = [1979-05-27 07:32:00, 1979-05-27T00:32:00-07:00, 07:32:00]
inline = { a.b = 1, "c" = [ { d = "}" }, {} ], e = QQQ}
QQQ }
empty = ""
five = QQQ""aQQQ""
[a.b]
here = true
[a]
more = -inf
[a."c.d".e]
x = 0xff
[[list]]
[list.sub]
y = 1
[[list.of]]
z = 1
[[list]]
   [[ list . of ]]
z = 2
""".replace("QQQ", '"' * 3).replace("LLL", "'" * 3)


def inner(node: TomlNode, *path: str | int) -> TomlNode:
    """The node at this path of keys and indices."""
    for step in path:
        node = (
            node.list_of("a list", 9)[step]
            if isinstance(step, int)
            else node.table("a table")[step]
        )
    return node


def test_the_lines_of_unusual_toml_are_correct() -> None:
    place = read(HARD, file="hard.toml")
    assert plain(place) == tomllib.loads(HARD)
    lines = HARD.split("\n")
    found = place.table("the file")
    for key in ("top", "quoted # key", "dates", "inline", "empty", "five"):
        assert key.split("#")[0].strip() in lines[found[key].line - 1]
    assert lines[inner(place, "lit.eral", 2).line - 1].lstrip().startswith('"x,]"')
    assert lines[inner(place, "a", "c.d", "e", "x").line - 1].startswith("x =")
    assert lines[inner(place, "a", "b").line - 1] == "[a.b]"
    last = inner(place, "list", -1)
    assert lines[last.line - 1] == "[[list]]"
    assert lines[inner(last, "of", 0, "z").line - 1] == "z = 2"


@settings(max_examples=300)
@given(st.sampled_from([GOOD, HARD]), st.data())
def test_any_text_is_parsed_like_tomllib_or_refused(text: str, data: st.DataObject) -> None:
    """The text is cut, repeated, or mixed with TOML syntax."""
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        new = data.draw(
            st.text("[]{}\"'#=.,\\\n\r ab1", max_size=4)
            | st.sampled_from(['"""', "'''", "[[a]]\n"])
        )
        text = text[:start] + new + text[end:]
    try:
        due = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        due = None
    refused = ""
    try:
        found = plain(read(text, file="a.toml"))
    except PolicyFileError as error:
        found, refused = None, str(error)
    assert found == due or "too deep" in refused
    with suppress(PolicyFileError):
        load([("a.toml", text)])
