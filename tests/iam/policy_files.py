"""A valid policy file."""

from __future__ import annotations

GOOD = """\
# The rules of a house.
[[policy]]
id = "lan-only"

[[policy.statement]]
effect = "Allow"
actions = ["Hello:*"]
conditions = [ { Bool = { "Connection:IsLocal" = ["true"] } } ]

[[policy.statement]]
effect = "Deny"
actions = [
    "Lamp:Set",
    "Lamp:Burn",  # both
]
conditions = [
    { StringLike = { "Connection:Username" = ["*-guest", "${IAM:Username}"] } },
    { DateGreaterThan = { "Clock:Now" = ["2030-01-31T12:00:00Z"] } },
]

[[role]]
id = "installer"
rank = 15
policies = ["core-unpaired", "lan-only", "app-user"]

[[role]]
id = "guest"
policies = ["lan-only"]
"""
