"""Copies of messages that share their option values.

`aiocoap.Message.copy` copies every option deeply, which is most of the cost of a short request.
Neither aiocoap nor handfast changes an option that a message has; a new one takes its place.
"""

import copy

import aiocoap
from aiocoap.options import Options


def copied(message: aiocoap.Message, **changes: object) -> aiocoap.Message:
    """Return a copy of a message with other options or attributes, as `Message.copy` does.

    Args:
        message: any message. The copy is not the response to its request.
        changes: values of options by name, or of `code`, `payload`, `mtype`, `mid` and `token`.
    """
    made = copy.copy(message)
    made.__dict__.pop("request", None)
    made.opt = Options()
    for option in message.opt.option_list():
        made.opt.add_option(option)
    for name, value in changes.items():
        setattr(made if name in _ATTRIBUTES else made.opt, name, value)
    return made


_ATTRIBUTES = frozenset({"code", "payload", "mtype", "mid", "token"})
