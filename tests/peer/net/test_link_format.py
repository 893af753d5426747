"""Links in the CoRE Link Format: filters, values of any type, and valid references."""

from typing import Any

import pytest
from aiocoap.numbers.contentformat import ContentFormat
from aiocoap.resource import ObservableResource, Resource
from aiocoap.util.linkformat import parse

from peer.net import link_format
from peer.net.link_format import Link, link_to, select

LINKS = [
    Link(("lamp",), {"rt": "light colour", "if": "sensor", "ct": "0 60", "obs": None}),
    Link(("fan",), {"rt": "fan", "title": "The fan, by the wall", "sz": "120"}),
    Link(("a", "küche 1"), {"if": "core#b"}),
    Link(("bare",), {}),
]


@pytest.mark.parametrize(
    ("queries", "found"),
    [
        ([], ["lamp", "fan", "küche 1", "bare"]),
        ([""], ["lamp", "fan", "küche 1", "bare"]),
        (["rt=*"], ["lamp", "fan"]),
        (["rt=light"], ["lamp"]),
        (["rt=colour"], ["lamp"]),
        (["rt=co*"], ["lamp"]),
        (["rt=light colour"], []),
        (["rt=ligh"], []),
        (["rt="], []),
        (["rt"], ["lamp", "fan"]),
        (["if=*"], ["lamp", "küche 1"]),
        (["ct=60"], ["lamp"]),
        (["ct=6"], []),
        (["sz=12*"], ["fan"]),
        (["sz=120"], ["fan"]),
        (["title=The fan*"], ["fan"]),
        (["title=fan"], []),
        (["obs"], ["lamp"]),
        (["obs=*"], ["lamp"]),
        (["href=/lamp"], ["lamp"]),
        (["href=/la"], []),
        (["href=/*"], ["lamp", "fan", "küche 1", "bare"]),
        (["href=/a/küche 1"], ["küche 1"]),
        (["href=/a/k%C3%BCche%201"], ["küche 1"]),
        (["foo=bar"], []),
        (["foo=*"], []),
        (["foo"], []),
        (["=*"], []),
        (["*"], []),
        (["rt=*", "if=*"], ["lamp"]),
        (["if=*", "rt=*"], ["lamp"]),
        (["rt=fan", "if=*"], []),
    ],
)
def test_a_filter_selects_links_by_an_attribute(queries: list[str], found: list[str]) -> None:
    assert [link.path[-1] for link in select(LINKS, queries)] == found


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({}, "</x>"),
        ({"rt": None}, "</x>"),
        ({"rt": ""}, "</x>"),
        ({"rt": "a b"}, '</x>;rt="a b"'),
        ({"rt": ["a", "b"]}, '</x>;rt="a b"'),
        ({"rt": {"b", "a"}}, '</x>;rt="a b"'),
        ({"rt": 7}, '</x>;rt="7"'),
        ({"rt": b"a"}, '</x>;rt="a"'),
        ({"rt": True}, "</x>"),
        ({"if_": ("x", None, "y")}, '</x>;if="x y"'),
        ({"if_": None}, "</x>"),
        ({"ct": None}, "</x>"),
        ({"ct": 60}, '</x>;ct="60"'),
        ({"ct": ContentFormat.CBOR}, '</x>;ct="60"'),
        ({"ct": [0, ContentFormat.CBOR]}, '</x>;ct="0 60"'),
        ({"ct": "0 60"}, '</x>;ct="0 60"'),
        ({"rt": 'a"b\\c'}, '</x>;rt="a\\"b\\\\c"'),
        ({"rt": "a\r\nb"}, '</x>;rt="a b"'),
    ],
)
def test_attributes_of_any_type_make_a_valid_link(attributes: dict[str, Any], text: str) -> None:
    resource = Resource()
    for name, value in attributes.items():
        setattr(resource, name, value)
    link = link_to(("x",), resource)
    assert str(link) == text
    assert link is not None
    assert select([link], ["rt=*", "if=*", "ct=*", "obs"]) == []


class Described(ObservableResource):
    """A resource that describes itself."""

    def __init__(self, description: Any) -> None:
        super().__init__()
        self._description = description

    def get_link_description(self) -> Any:
        if isinstance(self._description, Exception):
            raise self._description
        return self._description


@pytest.mark.parametrize(
    ("description", "text"),
    [
        ({"obs": None, "rt": None, "sz": 12}, "</x>;obs;sz=12"),
        ({"title": "Küche", "no name": "x", "foo": False}, '</x>;title="Küche"'),
        ({"href": "/elsewhere"}, "</x>"),
        ({}, "</x>"),
        (None, "None"),
    ],
)
def test_a_resource_can_describe_or_hide_itself(description: Any, text: str) -> None:
    assert str(link_to(("x",), Described(description))) == text


def test_a_resource_that_cannot_describe_itself_is_logged_and_listed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert str(link_to(("x",), Described(RuntimeError("no sensor")))) == "</x>"
    assert "no sensor" in caplog.text


def test_a_path_becomes_a_valid_reference() -> None:
    link = Link(("a b", 'c>"', "ü", "%", "x;y,z=(1)"), {})
    assert link.href == "/a%20b/c%3E%22/%C3%BC/%25/x;y,z=(1)"


def test_our_document_is_what_the_parser_of_aiocoap_reads() -> None:
    tricky = Link(("x",), {"rt": "a b", "title": "one, two; three", "obs": None})
    document = link_format.encode([*LINKS[:2], tricky]).decode()
    parsed = parse(document)
    assert [(link.href, dict(link.attr_pairs)) for link in parsed.links] == [
        (link.href, dict(link.attributes)) for link in [*LINKS[:2], tricky]
    ]
