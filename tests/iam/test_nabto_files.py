"""Nabto's IAM files: invalid files are refused at their line, and users are imported."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam import Access, State
from iam.config import load
from iam.errors import PolicyFileError
from iam.nabto import ImportedState, read_config
from iam.nabto import read_state as read_any_state
from iam.nabto.json_nodes import JsonNode, read

FILES = Path(__file__).with_name("nabto")


#: The imported names of the roles in the configuration that the states belong to.
ROLES = {"Administrator": "Administrator", "Guest": "Guest", "owner": "nabto-owner"}


def text_of(name: str) -> str:
    return (FILES / f"{name}.json").read_text("utf-8")


def read_state(text: str, *, file: str) -> ImportedState:
    return read_any_state(text, file=file, roles=ROLES)


@dataclass(frozen=True)
class InvalidConfig:
    """Replacements in a valid file (old and new text in turn), and the start and a part of the
    error."""

    changes: tuple[str, ...]
    due: str
    detail: str = ""

    def of(self, text: str) -> str:
        for before, after in zip(self.changes[::2], self.changes[1::2], strict=True):
            assert before in text
            text = text.replace(before, after, 1)
        return text


WRONG_CONFIGS = {
    "a condition object where a list is due": InvalidConfig(
        ('[{ "Bool": { "Connection:IsLocal": ["true"] } }]', "{}"),
        "t.json:17: Policies[0].Statements[0].Conditions: an object where a list is expected",
    ),
    "two operators": InvalidConfig(
        ('{ "Bool": {', '{ "StringEquals": {"A:B": ["c"]}, "Bool": {'),
        "t.json:17: Policies[0].Statements[0].Conditions[0]: there are 2 operators where one",
    ),
    "two attributes": InvalidConfig(
        ('{ "Connection:IsLocal"', '{ "A:B": ["x"], "Connection:IsLocal"'),
        "t.json:17: Policies[0].Statements[0].Conditions[0].Bool: there are 2 attributes where",
    ),
    "a number where text is due": InvalidConfig(
        ('"Thermostat:Target": ["5"]', '"Thermostat:Target": [5]'),
        "t.json:33: Policies[2].Statements[0].Conditions[0].NumericGreaterThanEquals",
        "['Thermostat:Target'][0]: a number where a text is expected",
    ),
    "no list of values": InvalidConfig(
        ('"Thermostat:Target": ["5"]', '"Thermostat:Target": "5"'),
        "t.json:33: Policies[2].Statements[0].Conditions[0].NumericGreaterThanEquals",
        "['Thermostat:Target']: a text where a list is expected",
    ),
    "not a number": InvalidConfig(('["27.5"]', '["warm"]'), "t.json:34: ", "'warm' is not what "),
    "not true or false": InvalidConfig(
        ('["true"]', '["yes"]'), "t.json:17: ", "'yes' is not what Bool"
    ),
    "an unknown operator": InvalidConfig(
        ('"NumericLessThan"', '"StringLike"'),
        "t.json:34: Policies[2].Statements[0].Conditions[1].StringLike: the operator 'StringLike'",
    ),
    "an unknown effect": InvalidConfig(
        ('"Effect": "Deny"', '"Effect": "deny"'),
        "t.json:38: Policies[2].Statements[1].Effect: the effect 'deny' is unknown",
    ),
    "no effect": InvalidConfig(
        ('"Effect": "Deny",', ""), "t.json:37: Policies[2].Statements[1]: Effect"
    ),
    "a key in another case": InvalidConfig(
        ('"Conditions"', '"CONDITIONS"'),
        "t.json:17: Policies[0].Statements[0].CONDITIONS: the key 'CONDITIONS' is not spelt Cond",
    ),
    "an unknown policy": InvalidConfig(
        ('"ReadHeat"] }', '"Nowhere"] }'),
        "t.json:6: Roles[1].Policies[1]: there is no policy 'Nowhere'",
    ),
    "a policy twice": InvalidConfig(
        ('"Id": "SetHeat"', '"Id": "ReadHeat"'),
        "t.json:27: Policies[2].Id: 'ReadHeat' is defined twice",
    ),
    "a role twice": InvalidConfig(('"Id": "Guest"', '"Id": "Unpaired"'), "t.json:6: Roles[1].Id: "),
    "two roles of one name": InvalidConfig(
        ('"Id": "Guest"', '"Id": "owner"', '"Id": "Standard"', '"Id": "nabto-owner"'),
        "t.json:4: Roles: two roles would get the same name",
    ),
    "a name that cannot be": InvalidConfig(
        ('"Id": "Guest"', '"Id": "Best \\u202e guest"'),
        "t.json:6: Roles[1].Id: this cannot be a name in handfast",
    ),
    "an unknown unpaired role": InvalidConfig(
        ('"UnpairedRole": "Unpaired"', '"UnpairedRole": "Missing"'),
        "t.json:3: Config.UnpairedRole: there is no role 'Missing'",
    ),
    "another version": InvalidConfig(
        ('"Version": 1', '"Version": 2'), "t.json:2: Version: the version is"
    ),
    "a version in words": InvalidConfig(
        ('"Version": 1', '"Version": true'),
        "t.json:2: Version: true or false where a whole number is expected",
    ),
    "no version": InvalidConfig(('"Version": 1,', ""), "t.json:1: Version is missing"),
    "no config": InvalidConfig(('"Config"', '"Confix"'), "t.json:1: Config is missing"),
    "a key twice": InvalidConfig(
        ('"Effect": "Deny"', '"Effect": "Deny", "Effect": "Allow"'),
        "t.json:38: Policies[2].Statements[1].Effect: the key occurs twice, also in line 38",
    ),
    "a variable inside a text": InvalidConfig(
        ('"5"', '"${A:B}5"'), "t.json:33: ", "neither text nor"
    ),
}


@pytest.mark.parametrize("what", WRONG_CONFIGS)
def test_an_invalid_configuration_is_refused_at_its_line(what: str) -> None:
    wrong = WRONG_CONFIGS[what]
    with pytest.raises(PolicyFileError) as error:
        read_config(wrong.of(text_of("thermostat")), file="t.json")
    assert str(error.value).startswith(wrong.due)
    assert wrong.detail in str(error.value)
    assert error.value.advice


WRONG_STATES = {
    "another version": InvalidConfig(
        ('"Version": 2', '"Version": 3'), "s.json:2: Version: the version is"
    ),
    "users in an object": InvalidConfig(
        ('"Users": [', '"Users": {"a": [', "\n  ]", "\n  ]}"),
        "s.json:4: Users: an object where a list is expected",
    ),
    "no name": InvalidConfig(
        ('"Username": "carl",', ""), "s.json:24: Users[2]: Username is missing"
    ),
    "not a name": InvalidConfig(('"carl"', '"Carl"'), "s.json:24: Users[2].Username: this is not"),
    "a user twice": InvalidConfig(
        ('"carl"', '"anna.k"'), "s.json:24: Users[2]: another user above "
    ),
    "half a key": InvalidConfig(
        ('"0001', '"01'), "s.json:10: Users[0].Fingerprints[0].Fingerprint: "
    ),
    "a key twice": InvalidConfig(
        (
            '"606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f"',
            '"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"',
        ),
        "s.json:21: Users[1].Fingerprints[0].Fingerprint: this key occurs twice, first in line 10",
    ),
    "no list of keys": InvalidConfig(
        ('"Fingerprints": [],', '"Fingerprints": "none",'),
        "s.json:24: Users[2].Fingerprints: a text where a list is expected",
    ),
    "a token of another kind": InvalidConfig(
        ('"OauthSubject": "top-secret-subject"', '"OauthSubject": 4711'),
        "s.json:16: Users[0].OauthSubject: a number where a text is expected",
    ),
    "a field in another case": InvalidConfig(
        ('"Role": "Guest"', '"role": "Guest"'),
        "s.json:24: Users[2].role: the key 'role' is not spelt Role",
    ),
}


@pytest.mark.parametrize("what", WRONG_STATES)
def test_an_invalid_state_is_refused_at_its_line(what: str) -> None:
    wrong = WRONG_STATES[what]
    with pytest.raises(PolicyFileError) as error:
        read_state(wrong.of(text_of("state-2")), file="s.json")
    assert str(error.value).startswith(wrong.due)
    assert "4711" not in str(error.value)


NOT_JSON = {
    "": "t:1: the file ends too early",
    "{": "t:1: a key in double quotes is expected",
    '{"a": 1,}': "t:1: a key in double quotes is expected",
    '{"a" 1}': "t:1: a colon is expected after a key",
    '{\n"a": [1 2]}': "t:2: a[0]: a comma or the end of the list is expected",
    '{"a": 1} {}': "t:1: there is text after the end",
    '{"a": NaN}': "t:1: a: a value is expected",
    '{"a": Infinity}': "t:1: a: a value is expected",
    '{"a": 01}': "t:1: a: a comma or the end of the object is expected",
    "{'a': 1}": "t:1: a key in double quotes is expected",
    '{"a": "\t"}': "t:1: a: a text is not closed, or has a character that JSON does not allow",
    '{"a": "\\x"}': "t:1: a: a text is not closed, or has a character that JSON does not allow",
    '{"a": "\\ud800"}': "t:1: a: a text has half a surrogate pair",
    '{"a": "\ud800"}': "t:1: a: a text has half a surrogate pair",
    '{"a": ' + "9" * 5000 + "}": "t:1: a: this number is too long",
    "[" * 5000: "t:1: " + "[0]" * 32 + ": this is nested more than 32 deep",
    '{"a": 1 // why\n}': "t:1: a: a comma or the end of the object is expected",
    "[]": "t:1: a list where an object is expected",
    " " * (1 << 20) + "{}": "t:1: the file is longer than 1048576 characters",
}


@pytest.mark.parametrize("text", NOT_JSON, ids=list(map(str, range(len(NOT_JSON)))))
def test_invalid_json_is_refused_at_its_line(text: str) -> None:
    for importer in (read_config, read_state):
        with pytest.raises(PolicyFileError) as error:
            importer(text, file="t")
        assert str(error.value).startswith(NOT_JSON[text])


def test_conditions_that_expand_to_too_many_cases_are_refused() -> None:
    many = [str(number) for number in range(9)]
    conditions = [{"StringNotEquals": {f"A:B{number}": many}} for number in range(2)]
    made = {"Effect": "Deny", "Actions": ["A:B"], "Conditions": conditions}
    policies = [{"Id": "p", "Statements": [made]}]
    config = {"Version": 1, "Config": {}, "Roles": [], "Policies": policies}
    with pytest.raises(PolicyFileError, match=r"Policies\[0\].Statements\[0\]: .* make 81 cases"):
        read_config(json.dumps(config), file="t")


def test_a_configuration_with_too_many_roles_is_refused() -> None:
    roles = [{"Id": f"r{number}", "Policies": []} for number in range(33)]
    config = {"Version": 1, "Config": {}, "Roles": roles, "Policies": []}
    with pytest.raises(PolicyFileError, match="Roles: there are more than 32 roles"):
        read_config(json.dumps(config), file="t")


short = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=3)
tree: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | short,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(short, inner),
    max_leaves=5,
)


@given(st.data())
def test_a_damaged_file_is_read_or_refused_with_its_line(data: st.DataObject) -> None:
    read, name = data.draw(
        st.sampled_from(
            [(read_config, "thermostat"), (read_config, "names"), (read_state, "state-2")]
        )
    )
    text = text_of(name)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    put = data.draw(st.text(max_size=3) | tree.map(json.dumps))
    try:
        read(text[:start] + put + text[end:], file="t")
    except PolicyFileError as error:
        where = str(error)
    else:
        where = "t:"
    assert where.startswith("t:")


@given(tree)
def test_json_is_parsed_like_by_the_standard_library(value: Any) -> None:
    def bare(node: JsonNode) -> Any:
        if isinstance(node.value, dict):
            return {key: bare(one) for key, one in node.value.items()}
        return [bare(one) for one in node.value] if isinstance(node.value, list) else node.value

    for indent in (None, 1):
        assert bare(read(json.dumps(value, indent=indent), file="t")) == value


# ---------------------------------------------------------------------------------------- states


def test_version_1_has_one_key_for_each_user() -> None:
    (anna,) = read_state(text_of("state-1"), file="s").users
    assert (anna.name, anna.role, anna.display_name) == ("anna", "Administrator", "Anna at home")
    (key,) = anna.keys
    assert key.fingerprint == bytes(range(31, -1, -1)).hex()
    assert (key.name, key.method, key.verified) == ("", "imported", False)


def test_version_2_has_keys_with_names() -> None:
    (anna,) = read_state(text_of("state-2"), file="s").users
    assert (anna.name, anna.role) == ("anna.k", "nabto-owner")
    found = {key.fingerprint: (key.name, key.method, key.verified) for key in anna.keys}
    assert found == {
        bytes(range(32)).hex(): ("phone", "imported", False),
        bytes(range(32, 64)).hex(): ("", "imported", False),
    }


def test_an_imported_owner_has_no_owner_rights() -> None:
    """This holds with and without the rules of the same device."""
    users = read_state(text_of("state-2"), file="s").users
    state = State.of(users)
    fingerprint = users[0].keys[0].fingerprint
    rules = read_config(text_of("names"), file="c").policy_toml
    for access in (Access(), load([("c.toml", rules)]).access()):
        subject = access.subject(state, fingerprint, 0)
        assert not access.decide(subject, "Events:Read").allowed
        assert not access.decide(subject, "Iam:AddUser").allowed


SECRETS = {
    1: (
        "OpenPairingPassword",
        "OpenPairingSct",
        "Users[0].ServerConnectToken",
        "Users[1].Password",
    ),
    2: (
        "Users[0].Fcm",
        "Users[0].NotificationCategories",
        "Users[0].OauthSubject",
        "Users[2].Shoe",
    ),
}


@pytest.mark.parametrize("version", [1, 2])
def test_no_secret_of_a_state_is_imported_or_shown(version: int) -> None:
    imported = read_state(text_of(f"state-{version}"), file="s")
    fields = SECRETS[version]
    output = "\n".join(imported.notes)
    assert "top-secret" not in output + repr(imported.users)
    for field in fields:
        assert f": {field}: " in output


@given(st.data())
def test_no_error_shows_a_secret(data: st.DataObject) -> None:
    """Any part of the file is cut out or replaced."""
    text = text_of(data.draw(st.sampled_from(["state-1", "state-2"])))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    put = data.draw(st.sampled_from(["", '"', "[", "}", ",", ":", "1", "\\"]))
    try:
        read_state(text[:start] + put + text[end:], file="s")
    except PolicyFileError as error:
        shown = str(error) + error.advice + str(error.__cause__ or "")
    else:
        shown = ""
    assert "top-secret" not in shown


@pytest.mark.parametrize(
    "lost",
    [
        "the user script-1 has no role",
        "the user carl has no key and is left out; make an invite for carl with the role Guest",
        "Nabto accepts no fingerprint in capitals",
        "handfast has a role owner; the imported one is nabto-owner",
    ],
)
def test_each_omitted_user_or_key_has_a_note(lost: str) -> None:
    assert lost in "\n".join(read_state(text_of("state-2"), file="s").notes)


def test_a_key_in_the_field_of_another_version_is_ignored() -> None:
    text = text_of("state-1").replace('"Version": 1', '"Version": 2')
    imported = read_state(text, file="s")
    assert imported.users == ()
    assert "s:17: Users[0].Fingerprint: the field 'Fingerprint' is unknown" in "\n".join(
        imported.notes
    )


def test_a_name_with_control_characters_is_omitted() -> None:
    text = text_of("state-2").replace('"phone"', '"pho\\u001b[2Jne"').replace('"Anna"', '"\\u202e"')
    imported = read_state(text, file="s")
    (anna,) = imported.users
    assert anna.display_name == ""
    assert {key.name for key in anna.keys} == {""}
    assert all(note.isprintable() for note in imported.notes)


@pytest.mark.parametrize("role", ["Installer", "admin", "nabto-owner", "guest"])
def test_a_user_whose_role_is_not_in_the_configuration_is_omitted(role: str) -> None:
    """In Nabto it has no rights; here a built-in role or another file's may have that name."""
    text = text_of("state-1").replace('"Administrator"', json.dumps(role))
    assert text != text_of("state-1")
    imported = read_state(text, file="s")
    assert "anna" not in {user.name for user in imported.users}
    assert f"the configuration has no role '{role}'; the user anna may do nothing" in "\n".join(
        imported.notes
    )


def test_a_state_without_users_is_valid() -> None:
    assert read_state('{"Version": 1, "FriendlyName": "x"}', file="s").users == ()
