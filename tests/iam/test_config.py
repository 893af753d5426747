"""Policy files are parsed, or refused with the line of the error."""

from __future__ import annotations

from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam import AccessConfig, Condition, Operator, Policy, Role, Statement, Subject
from iam.builtin import POLICIES, RANKS, ROLES
from iam.config import load
from iam.errors import PolicyFileError
from iam.limits import (
    CONDITION_VALUES_MAX,
    STATEMENT_ACTIONS_MAX,
    STATEMENT_CONDITIONS_MAX,
    TOML_DEPTH_MAX,
    TOML_LINE_CHARACTERS_MAX,
    VALUE_CHARACTERS_MAX,
)
from iam.policy import Effect
from iam.policy_toml import to_toml
from tests.iam.policy_files import GOOD


def test_a_valid_file_is_parsed() -> None:
    book = load([("rules.toml", GOOD)])
    local = Condition(Operator.BOOL, "Connection:IsLocal", ("true",))
    named = Condition(Operator.STRING_LIKE, "Connection:Username", ("*-guest", "${IAM:Username}"))
    late = Condition(Operator.DATE_GREATER_THAN, "Clock:Now", ("2030-01-31T12:00:00Z",))
    mine = Policy(
        "lan-only",
        (
            Statement(Effect.ALLOW, ("Hello:*",), (local,)),
            Statement(Effect.DENY, ("Lamp:Set", "Lamp:Burn"), (named, late)),
        ),
    )
    roles = {role.id: role for role in book.roles}
    assert book.policies == (*POLICIES, mine)
    assert roles["installer"] == Role("installer", 15, ("core-unpaired", "lan-only", "app-user"))
    assert roles["guest"] == Role("guest", 10, ("lan-only",))
    assert [role.id for role in book.roles] == [*RANKS, "installer"]
    assert book.warnings == ()


def test_without_files_the_built_in_rules_apply() -> None:
    assert load([]) == AccessConfig() == load([("empty.toml", "# nothing\n")])
    assert (AccessConfig().roles, AccessConfig().policies) == (ROLES, POLICIES)


def test_several_files_form_one_set() -> None:
    policies, roles = GOOD.split("[[role]]", 1)
    apart = load([("10.toml", "[[role]]" + roles), ("20.toml", policies)])
    assert apart == load([("rules.toml", GOOD)])


def test_a_replaced_role_has_only_the_policies_it_names() -> None:
    access = load([("rules.toml", GOOD)]).access({"Lamp:Get": "guest", "Lamp:Set": "user"})
    local = {"Connection:IsLocal": "true", "Clock:Now": "0"}
    found = {
        role: access.actions_of(Subject("", None, role), attributes=local)
        for role in ("guest", "installer", "user")
    }
    assert found["guest"] == ("Hello:Get",)
    assert found["installer"] == ("Core:Discover", "Hello:Get", "Iam:RedeemInvite", "Lamp:Set")
    assert {"Lamp:Get", "Lamp:Set"} <= set(found["user"])


# --------------------------------------------------------------------------------------- refusals

STATEMENT = '[[policy]]\nid = "p"\n[[policy.statement]]\neffect = "Allow"\nactions = ["A:B"]\n'


def condition(text: str) -> str:
    return f"{STATEMENT}conditions = {text}\n"


ROLE = '[[role]]\nid = "r"\nrank = 5\npolicies = ["core-guest"]\n'

LONG_VALUE = "a" * (VALUE_CHARACTERS_MAX + 1)
LONG_KEY = "a" + ".a" * (TOML_DEPTH_MAX - 1)

# A text and a part of the reason. The error must name the line that ends in "#!".
WRONG: dict[str, tuple[str, str]] = {
    # what TOML is
    "no TOML at all": ("\n<xml/>  #!", "not TOML"),
    "no end of a string": ('[[policy]]\nid = "p  #!', "not TOML"),
    "no end of a list": ('[[policy]]\nid = ["p",  #!\n\n', "not TOML"),
    "a key twice": ('[[policy]]\nid = "p"\nid = "p"  #!', "not TOML"),
    "a table after a list": ("[[policy]]\n[policy]  #!", "[policy] follows [[policy]]"),
    "a table twice": ("[a.b]\nc = 1\n[a.b]  #!", "the table [a.b] has a second heading"),
    "a byte order mark": ("\ufeff[[policy]]  #!", "at U+FEFF (byte order mark)"),
    "a byte order mark of a joined file": ("# a\n\ufeff[[policy]]  #!", "(byte order mark)"),
    "a no-break space": ("[[policy]]\n\u00a0id = 1  #!", "at U+00A0 (no-break space)"),
    "quotes of a word processor": (
        "[[policy]]\nid = \u201cp\u201d  #!",
        "at U+201C (left double quotation mark)",
    ),
    "a bare carriage return": ('[[policy]]\nid = "a"\r#!', "at U+000D (control character)"),
    "a long line": (f"\n# {'x' * TOML_LINE_CHARACTERS_MAX}  #!", "longer than"),
    "a long number": (f"\nrank = {'9' * 4301}  #!", "longer than"),
    "deep brackets": (f"\nid = {'[' * (TOML_DEPTH_MAX + 1)}  #!", "too deep"),
    "deep brackets in many lines": (
        "id = [\n" + "[\n" * (TOML_DEPTH_MAX - 1) + "[  #!",
        "too deep",
    ),
    "a key of many parts": (f"\n[a{'.a' * TOML_DEPTH_MAX}]  #!", "more than 32 parts"),
    "deep brackets that strings hide": ("#!\nid = " + '["""\n]""", ' * 900 + "]" * 900, "too deep"),
    "deep tables of long keys": (
        "#!\n" + f"{LONG_KEY} = {{ " * TOML_DEPTH_MAX + "a = 1" + " }" * TOML_DEPTH_MAX,
        "too deep",
    ),
    # the shape
    "an unknown key of the file": ('\npolicies = ["p"]  #!', "no key 'policies'"),
    "an unknown table": ("[[policy]]\n[[polizy]]  #!", "no key 'polizy'"),
    "one policy, not a list": ('[policy]  #!\nid = "p"', "[[policy]] has to be a list"),
    "a policy that is text": ('policy = ["p"]  #!', "a policy has to be a table"),
    "an empty list of roles": ("role = []  #!", "0 entries"),
    "an unknown key of a policy": ('[[policy]]\nid = "p"\nIds = 1  #!', "no key 'Ids'"),
    "a policy without id": ("\n[[policy]]  #!\n", "no id"),
    "a policy without statements": ('[[policy]]  #!\nid = "p"', "no statement"),
    "an id that is a number": ("[[policy]]\nid = 7  #!", "has to be text"),
    "an id with a blank": ('[[policy]]\nid = "a b"  #!', "cannot be a policy's id"),
    "an empty id": ('[[policy]]\nid = ""  #!', "cannot be a policy's id"),
    "a long id": (f'[[policy]]\nid = "{"a" * 65}"  #!', "cannot be a policy's id"),
    "statement, not a list": ('[[policy]]\nid = "p"\n[policy.statement]  #!', "has to be a list"),
    # statements
    "an unknown key of a statement": (STATEMENT + "condition = []  #!", "no key 'condition'"),
    "a statement without effect": (
        '[[policy]]\nid = "p"\n[[policy.statement]]  #!\nactions = ["A:B"]',
        "no effect",
    ),
    "a statement without actions": (
        '[[policy]]\nid = "p"\n[[policy.statement]]  #!\neffect = "Deny"',
        "no actions",
    ),
    "an unknown effect": (STATEMENT.replace('"Allow"', '"Permit"  #!'), "'Permit' is not an eff"),
    "an effect in lower case": (STATEMENT.replace('"Allow"', '"allow"  #!'), "not an effect"),
    "an effect that is true": (STATEMENT.replace('"Allow"', "true  #!"), "has to be text"),
    "no action": (STATEMENT.replace('["A:B"]', "[]  #!"), "0 entries"),
    "actions as text": (STATEMENT.replace('["A:B"]', '"A:B"  #!'), "has to be a list"),
    "actions as a table": (STATEMENT.replace('["A:B"]', '{ "A:B" = 1 }  #!'), "to be a list"),
    "an action that is a number": (
        STATEMENT.replace('["A:B"]', '[\n"A:B",\n1,  #!\n]'),
        "has to be text",
    ),
    "an action of any module": (
        STATEMENT.replace('["A:B"]', '[\n"A:*",\n"*:*",  #!\n"B:*"]'),
        "'*:*' is not an action",
    ),
    "too many actions": (
        STATEMENT.replace('["A:B"]', "[  #!\n" + '"A:B",\n' * (STATEMENT_ACTIONS_MAX + 1) + "]"),
        "entries",
    ),
    # conditions
    "conditions as an object": (
        condition('{ Bool = { "Connection:IsLocal" = ["true"] } }  #!'),
        "has to be a list",
    ),
    "no condition": (condition("[]  #!"), "0 entries"),
    "too many conditions": (
        condition("[  #!\n" + '{Bool={"A:B"=["true"]}},\n' * (STATEMENT_CONDITIONS_MAX + 1) + "]"),
        "entries",
    ),
    "a condition that is text": (condition('[\n"Bool"  #!\n]'), "a condition has to be a table"),
    "an empty condition": (condition("[\n{}  #!\n]"), "a condition is empty"),
    "two operators": (
        condition('[\n{ Bool = {"A:B"=["true"]}, StringLike = {"A:B"=["a"]} }  #!\n]'),
        "more than one entry",
    ),
    "two operators under a header": (
        STATEMENT + '[[policy.statement.conditions]]\nBool = { "A:B" = ["true"] }\n'
        '[policy.statement.conditions.StringLike]  #!\n"A:B" = ["a"]',
        "more than one entry",
    ),
    "an unknown operator": (
        condition('[\n{ Bool = {"A:B"=["true"]} },\n{ Boole = {"A:B"=["true"]} },  #!\n]'),
        "'Boole' is not an operator",
    ),
    "an operator in lower case": (condition('[{ bool = {"A:B"=["true"]} }]  #!'), "an operator"),
    "an operator with a list": (condition('[{ Bool = ["true"] }]  #!'), "has to be a table"),
    "no attribute": (condition("[{ Bool = {} }]  #!"), "is empty"),
    "two attributes": (
        condition('[{ Bool = { "A:B" = ["true"],  "A:C" = ["true"] } }]  #!'),
        "more than one entry",
    ),
    "an attribute without quotes is two": (
        condition('[{ Bool = { Connection.IsLocal = ["true"] } }]  #!'),
        "'Connection' is not an attribute",
    ),
    "an attribute without module": (condition('[{Bool={IsLocal=["true"]}}]  #!'), "an attribute"),
    "an unknown built-in attribute": (
        condition('[{ Bool = { "Connection:Local" = [  #!\n"true"] } }]'),
        "no attribute Connection:Local",
    ),
    "a look-alike of a built-in module": (
        condition('[{ StringEquals = { "iam:Username" = ["a"] } }]  #!'),
        "no attribute iam:Username",
    ),
    "a value that is no list": (condition('[{ Bool = {"A:B"="true"} }]  #!'), "has to be a list"),
    "a value that is an object": (condition('[{ Bool = {"A:B"={a=1}} }]  #!'), "to be a list"),
    "no value": (condition('[{ Bool = { "A:B" = [] } }]  #!'), "0 entries"),
    "a number where text is due": (
        condition('[{ NumericEquals = { "A:B" = [\n"1",\n2,  #!\n] } }]'),
        "has to be text",
    ),
    "true where text is due": (condition('[{ Bool = { "A:B" = [true] } }]  #!'), "to be text"),
    "a date where text is due": (
        condition('[{ DateEquals = { "Clock:Now" = [2030-01-31T12:00:00Z] } }]  #!'),
        "has to be text",
    ),
    "a number that is none": (
        condition('[{ NumericLessThan = { "A:B" = [\n"42",\n"0x10",  #!\n] } }]'),
        "'0x10' is not what NumericLessThan compares with",
    ),
    "True": (condition('[{ Bool = { "A:B" = ["True"] } }]  #!'), "not what Bool compares with"),
    "a network with bits beyond": (
        condition('[{ IpAddress = { "Connection:Address" = [\n"192.0.2.7/24"  #!\n] } }]'),
        "not what IpAddress compares with",
    ),
    "a time without a zone": (
        condition('[{ DateLessThan = { "Clock:Now" = ["2030-01-31T12:00:00"] } }]  #!'),
        "not what DateLessThan compares with",
    ),
    "half a substitution": (
        condition('[{ StringLike = { "A:B" = [\n"a",\n"cam-${A:C}",  #!\n] } }]'),
        "neither",
    ),
    "a substitution that never is": (
        condition('[{ StringEquals = { "A:B" = ["${IAM:Rank}"] } }]  #!'),
        "no attribute IAM:Rank",
    ),
    "a long value": (
        condition(f'[{{ StringLike = {{ "A:B" = [\n"{LONG_VALUE}"  #!\n] }} }}]'),
        "longer than",
    ),
    # roles
    "an unknown key of a role": (ROLE + "name = 1  #!", "no key 'name'"),
    "a role without id": ("\n[[role]]  #!\nrank = 5", "no id"),
    "a role without rank": ('\n[[role]]  #!\nid = "r"\npolicies = []', "no rank"),
    "a role without policies": ('\n[[role]]  #!\nid = "r"\nrank = 5', "no policies"),
    "a rank that is text": (ROLE.replace("5", '"5"  #!'), "whole number"),
    "a rank that is true": (ROLE.replace("5", "true  #!"), "whole number"),
    "a rank with a fraction": (ROLE.replace("5", "5.0  #!"), "whole number"),
    "the rank of unpaired keys": (ROLE.replace("5", "0  #!"), "not from 1 to 39"),
    "a rank of an owner": (ROLE.replace("5", "40  #!"), "not from 1 to 39"),
    "another rank for a built-in role": (
        '[[role]]\nid = "guest"\nrank = 39  #!\npolicies = []',
        "the rank of 'guest' is fixed at 10",
    ),
    "an unknown policy": (
        '[[role]]\nid = "r"\nrank = 5\npolicies = [\n"core-guest",\n"nowhere",  #!\n]',
        "unknown policy 'nowhere'",
    ),
    "an unknown policy of an application": (
        ROLE.replace('"core-guest"]', '"app-chief"]  #!'),
        "unknown policy 'app-chief'",
    ),
    "a policy twice in a role": (
        '[[role]]\nid = "r"\nrank = 5\npolicies = [\n"core-guest",\n"core-guest",  #!\n]',
        "twice",
    ),
    "a built-in policy": (STATEMENT.replace('"p"', '"core-guest"  #!'), "is built in"),
    "a policy that looks like ours": (STATEMENT.replace('"p"', '"App-mine"  #!'), "is built in"),
    "a policy twice": (
        STATEMENT + STATEMENT.replace('"p"', '"p"  #!'),
        "policy 'p' is defined twice, first at rules.toml:2",
    ),
    "a role twice": (ROLE + ROLE.replace('"r"', '"r"  #!'), "twice, first at rules.toml:2"),
    # what an unpaired key may never have
    "an application for strangers": (
        STATEMENT + '[[role]]\nid = "unpaired"\npolicies = ["core-unpaired",\n"p"]  #!',
        "policy 'p' would let a key that is not paired reach A:B",
    ),
    "iam for strangers": (
        '[[role]]\nid = "unpaired"\npolicies = ["core-guest"]  #!',
        "not paired reach Iam:Check",
    ),
    "an application's policy for strangers": (
        '[[role]]\nid = "unpaired"\npolicies = ["app-guest"]  #!',
        "not paired reach an application",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_invalid_file_is_refused_at_its_line(case: str) -> None:
    text, reason = WRONG[case]
    [line] = [n for n, one in enumerate(text.split("\n"), 1) if one.endswith("#!")]
    text = text.removesuffix("#!").replace("  #!\n", "  # here\n")
    for end in ("\n", "\r\n"):
        with pytest.raises(PolicyFileError) as caught:
            load([("first.toml", "# nothing\n"), ("rules.toml", text.replace("\n", end))])
        assert str(caught.value).startswith(f"rules.toml:{line}: "), str(caught.value)
        assert reason in str(caught.value)
        assert caught.value.advice
        assert (caught.value.file, caught.value.line) == ("rules.toml", line)
        assert len(str(caught.value)) < 400


def test_a_conflict_between_two_files_names_both() -> None:
    with pytest.raises(PolicyFileError) as caught:
        load([("10-a.toml", ROLE), ("20-b.toml", "\n\n" + ROLE)])
    assert str(caught.value) == "20-b.toml:4: role 'r' is defined twice, first at 10-a.toml:2"


def test_a_file_above_the_size_limit_is_refused() -> None:
    with pytest.raises(PolicyFileError, match=r"^rules\.toml:1: the file is longer"):
        load([("rules.toml", "#\n" * 5_000_000)])


def test_a_role_without_policies_is_accepted() -> None:
    """A role without rights may be intended; a policy without statements is an error."""
    book = load([("rules.toml", ROLE.replace('"core-guest"', ""))])
    assert book.roles[-1] == Role("r", 5)


# --------------------------------------------------------------------------------------- warnings


@pytest.mark.parametrize(
    ("effect", "operator", "attribute", "value", "why"),
    [
        ("Deny", "StringNotEquals", "Lamp:Zone", "kitchen", "does not apply where"),
        ("Deny", "NotIpAddress", "Camera:Viewer", "192.0.2.1", "does not apply where"),
        ("Deny", "StringNotLike", "IAM:Username", "a?", "does not apply where"),
        ("Deny", "StringNotEquals", "Connection:RoleId", "guest", ""),
        ("Allow", "StringNotEquals", "Lamp:Zone", "kitchen", ""),
        ("Allow", "StringEquals", "Lamp:Zone", "kit*", "is a wildcard only in"),
        ("Allow", "StringLike", "Lamp:Zone", "kit*", ""),
        ("Allow", "DateLessThan", "Clock:Now", "2030", "before 2001"),
        ("Allow", "DateLessThan", "Clock:Now", "1896091200", ""),
        # The client can choose the attribute: with another hop limit, a neighbour counts as remote.
        ("Deny", "Bool", "Connection:IsLocal", "true", "hop limit"),
        ("Deny", "StringEquals", "Connection:IsLocal", "true", "hop limit"),
        ("Deny", "StringLike", "Connection:IsLocal", "t*", "hop limit"),
        ("Deny", "StringNotEquals", "Connection:IsLocal", "false", "hop limit"),
        ("Deny", "Bool", "Lamp:Near", "${Connection:IsLocal}", "hop limit"),
        ("Deny", "Bool", "Connection:IsLocal", "${Lamp:Near}", "hop limit"),
        ("Allow", "Bool", "Connection:IsLocal", "false", "hop limit"),
        ("Allow", "StringNotEquals", "Connection:IsLocal", "true", "hop limit"),
        ("Deny", "Bool", "Connection:IsLocal", "false", ""),
        ("Deny", "StringNotEquals", "Connection:IsLocal", "true", ""),
        ("Allow", "Bool", "Connection:IsLocal", "true", ""),
        ("Deny", "IpAddress", "Connection:Address", "192.0.2.0/24", "use another address"),
        ("Deny", "StringEquals", "Connection:Address", "192.0.2.1", "use another address"),
        ("Deny", "IpAddress", "Camera:Viewer", "${Connection:Address}", "use another address"),
        ("Allow", "NotIpAddress", "Connection:Address", "192.0.2.0/24", "use another address"),
        ("Deny", "NotIpAddress", "Connection:Address", "192.0.2.0/24", ""),
        ("Allow", "IpAddress", "Connection:Address", "192.0.2.0/24", ""),
        ("Deny", "StringLike", "Connection:Interface", "wlan?", "use another interface"),
        ("Deny", "StringEquals", "Connection:Path", "relay", "use another path"),
        ("Allow", "StringNotEquals", "Connection:Path", "relay", "use another path"),
        ("Allow", "StringEquals", "Connection:Path", "lan", ""),
        ("Deny", "StringEquals", "Connection:KeyName", "phone", "with another key"),
        ("Deny", "StringEquals", "Connection:Fingerprint", "ab" * 32, "with another key"),
        ("Deny", "Bool", "Connection:Verified", "false", ""),
        ("Deny", "StringEquals", "Connection:Username", "tom", ""),
    ],
)
def test_a_condition_that_is_probably_a_mistake_is_a_warning(
    effect: str, operator: str, attribute: str, value: str, why: str
) -> None:
    text = condition(f'[\n{{ {operator} = {{ "{attribute}" = ["{value}"] }} }}\n]')
    warnings = load([("rules.toml", text.replace("Allow", effect))]).warnings
    assert len(warnings) == bool(why)
    assert all(one.startswith("rules.toml:7: ") and why in one for one in warnings)


def test_a_role_name_similar_to_a_built_in_one_is_a_warning() -> None:
    text = ROLE.replace('"r"', '"Guest"')
    assert load([("rules.toml", text)]).warnings == (
        "rules.toml:2: role 'Guest' is not the built-in 'guest'",
    )


def test_an_action_that_no_resource_uses_is_reported_with_its_line() -> None:
    book = load([("rules.toml", GOOD)])
    assert book.unknown_actions({"Hello:Get", "Lamp:Set", "Lamp:Burn"}) == ()
    assert book.unknown_actions({"Lamp:Set", "Hell:Get"}) == (
        "rules.toml:7: no resource asks for the action Hello:*",
        "rules.toml:14: no resource asks for the action Lamp:Burn",
    )
    assert AccessConfig().unknown_actions(()) == ()


# ------------------------------------------------------------------------------------- round trip

ids = st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,6}", fullmatch=True).filter(
    lambda one: not one.lower().startswith(("core-", "app-")) and one not in RANKS
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="$"), max_size=9).map(
    lambda text: normalize("NFC", text)
)
conditions = st.builds(
    Condition,
    st.sampled_from([one for one in Operator if one.startswith("String")]),
    st.sampled_from(["Lamp:Zone", "Connection:Username", "IAM:RoleId"]),
    st.lists(texts | st.just("${IAM:Username}"), min_size=1, max_size=3).map(tuple),
)
statements = st.builds(
    Statement,
    st.sampled_from(Effect),
    st.lists(st.sampled_from(["Lamp:Set", "Lamp:*"]), min_size=1, max_size=3).map(tuple),
    st.lists(conditions, max_size=3).map(tuple),
)
policies = st.lists(
    st.builds(Policy, ids, st.lists(statements, min_size=1, max_size=3).map(tuple)),
    max_size=3,
    unique_by=lambda policy: policy.id,
)


@given(policies, st.lists(ids, max_size=3, unique=True), st.integers(1, 39))
def test_written_rules_are_parsed_to_the_same_rules(
    found: list[Policy], roles: list[str], rank: int
) -> None:
    named = ("core-guest", *(policy.id for policy in found), "app-user")
    mine = [Role(role, rank, named) for role in roles] + [Role("guest", 10, named)]
    book = load([("rules.toml", to_toml(mine, found))])
    assert set(book.roles) == {*(role for role in ROLES if role.id != "guest"), *mine}
    assert book.policies == (*POLICIES, *found)
    again = load([("again.toml", to_toml(book.roles, book.policies))])
    assert (again.roles, again.policies) == (book.roles, book.policies)


def test_long_lists_are_written_and_parsed_again() -> None:
    values = tuple(f"{number}\n\x7f\x00\\\"'" + "é" * 200 for number in range(CONDITION_VALUES_MAX))
    one = Condition(Operator.STRING_EQUALS, "Lamp:Zone", values)
    actions = tuple(f"Lamp:Set{number}" for number in range(STATEMENT_ACTIONS_MAX))
    policies = [Policy(f"p{n}", (Statement(Effect.ALLOW, actions, (one,)),)) for n in range(1)]
    role = Role("r", 5, tuple(policy.id for policy in policies))
    many = Role("many", 5, tuple(f"core-{name}" for name in RANKS) + role.policies)
    book = load([("rules.toml", to_toml([role, many], policies))])
    assert (book.roles[-2:], book.policies[-1:]) == ((role, many), tuple(policies))
