"""Remote reach: a paired client finds a path to its device through NATs and firewalls.

The two sides exchange sealed messages over an MQTT broker (`messages`, `pair_keys`), gather ICE
candidates, and open a DTLS session over the path that ICE finds, with both keys pinned as on a LAN.
The modules without I/O take the time and random bytes as arguments; the drivers use them.
"""
