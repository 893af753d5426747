"""200,000 requests on one session, in which the Message IDs wrap around three times.

Each answer belongs to its request, each handler runs once, and memory stays flat. `make soak` runs
this and prints the figures. Time is not a criterion; memory is.
"""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from peer.identity import Identity
from peer.limits import DEFAULT_LIMITS
from peer.net.client import CoapsClient
from tests.kit.internals import messages_of, remotes_of

if TYPE_CHECKING:
    from tests.kit.serve import Serve
    from tests.kit.table import Table

pytestmark = [
    pytest.mark.bench,
    pytest.mark.soak,
    pytest.mark.timeout(3600),
]
REQUESTS, WARM = 200_000, 20_000
MESSAGE_IDS = 65_536
PAGE_BYTES = 4096


def resident() -> int:
    """The resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def memory() -> tuple[int, int, int]:
    """Allocated Python blocks, objects known to the collector, and resident bytes."""
    gc.collect()
    return sys.getallocatedblocks(), len(gc.get_objects()), resident()


async def test_200_000_requests_on_one_session_use_no_additional_memory(
    serve: Serve, table: Table
) -> None:
    served = await serve()
    async with CoapsClient(Identity.create()) as client:
        connection = await client.connect(served.address, pinned=served.identity.fingerprint)
        session = connection.peer.session_id
        begin, warm = time.perf_counter(), memory()
        used = bytearray(MESSAGE_IDS)  # a set would grow by itself
        for number in range(REQUESTS):
            if number == WARM:
                warm = memory()
            used[messages_of(client).message_id] = 1
            body = b"request %d" % number
            message = aiocoap.Message(code=Code.POST, uri_path=("echo",), payload=body)
            answer = await connection.request(message, timeout=60)
            assert answer.payload == body, "this is the answer to another request"
        taken, end = time.perf_counter() - begin, memory()
        assert served.echo.served == REQUESTS
        assert connection.peer.session_id == session
        assert all(used), "every Message ID was used, most of them three times"
        [remote] = remotes_of(served.server)
        assert len(remote.recent) <= DEFAULT_LIMITS.dedup_window
    table.add(f"soak: one of {REQUESTS:,} requests", taken / REQUESTS)
    for what, before, after in zip(("blocks", "objects", "resident bytes"), warm, end, strict=True):
        print(f"{what}: {before:,}, then {after:,}: {after / before:.4f}")
    blocks, objects, bytes_ = (after / before for before, after in zip(warm, end, strict=True))
    assert blocks < 1.02, "Python objects accumulate"
    assert objects < 1.02, "Python objects accumulate"
    assert bytes_ < 1.2, "resident memory grows"
