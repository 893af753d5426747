"""Every override of a private part of aiocoap, each with its reason. No other module has one.

aiocoap implements the CoAP messages: parsing, retransmission, separate responses, observation on
the client's side, blocks. In some ways it trusts its peers more than a device on a hostile network
can: its tables grow with what a peer sends, and one request that cannot be notified of an error
hides the error from all others. Each class here says what it changes.

`parsing` makes messages, `managers` bounds requests and exchanges, `blocks` bounds bodies.
aiocoap has no type information; .ci/typings/aiocoap declares what this project uses.
"""
