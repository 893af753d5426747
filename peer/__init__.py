"""The shared core of handfast: keys, DTLS, CoAP over DTLS, and pairing.

It has no users, roles or policies.
"""
