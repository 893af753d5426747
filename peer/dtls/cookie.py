"""The stateless cookie gate (HelloVerifyRequest, RFC 6347 §4.2.1).

Before a source address has shown that it receives what is sent to it, nothing about it is kept, and
the answer is never longer than the question. One OpenSSL object listens for all sources: it judges
one ClientHello after another and keeps nothing of them, until one with a good cookie turns it into
a session; the next ClientHello gets a new object. So neither a ClientHello without a cookie nor one
that may not begin costs an object or a signature. The cookie is an HMAC over where the datagram
came from; its key takes turns, and the key before the present one is still good, so that no honest
client is caught by the change.
"""

import hmac
from collections.abc import Callable
from hashlib import sha256

from peer.dtls.context import ServerContext
from peer.dtls.session import DtlsSession

_COOKIE_BYTES = 32


class CookieJar:
    """Makes and checks cookies. `new_key` yields 32 random bytes; `lifetime` is in seconds."""

    def __init__(self, new_key: Callable[[], bytes], *, lifetime: float) -> None:
        self._new_key = new_key
        self._lifetime = lifetime
        self._keys = [new_key(), new_key()]
        self._turned: float | None = None

    def make(self, where: bytes, now: float) -> bytes:
        """The cookie for a place; `now` is monotonic seconds."""
        self._turn(now)
        return self._cookie(self._keys[0], where)

    def check(self, where: bytes, cookie: bytes, now: float) -> bool:
        """Whether the cookie was made for that place under one of the two keys."""
        self._turn(now)
        good = [hmac.compare_digest(self._cookie(key, where), cookie) for key in self._keys]
        return any(good)

    def _turn(self, now: float) -> None:
        if self._turned is None:
            self._turned = now
        turns = int((now - self._turned) // self._lifetime)
        if turns > 0:
            newest = self._keys[0] if turns == 1 else self._new_key()
            self._keys = [self._new_key(), newest]
            self._turned += turns * self._lifetime

    @staticmethod
    def _cookie(key: bytes, where: bytes) -> bytes:
        return hmac.digest(key, where, sha256)[:_COOKIE_BYTES]


class CookieGate:
    """Turns ClientHellos into sessions, once their cookie is right. `mtu` is the path's size."""

    def __init__(self, jar: CookieJar, *, mtu: int) -> None:
        self._jar = jar
        self._mtu = mtu
        self._listening: tuple[ServerContext, DtlsSession] | None = None

    def admit_untrusted(
        self,
        hello: bytes,
        *,
        context: ServerContext,
        where: bytes,
        now: float,
        may_begin: Callable[[], bool],
    ) -> DtlsSession | bytes:
        """A session for a ClientHello with a good cookie, else the datagram to answer (or b"").

        `hello` is the record of the ClientHello; `where` names its source: address, port and
        interface. `may_begin` is asked once the cookie is good, and before the handshake costs
        anything; if it says no, there is no session and no answer.
        """
        refused = False

        def check_cookie(cookie: bytes) -> bool:
            nonlocal refused
            good = self._jar.check(where, cookie, now)
            refused = good and not may_begin()
            return good and not refused

        session = self._listener(context)
        answer = session.listen_untrusted(
            hello,
            make_cookie=lambda: self._jar.make(where, now),
            check_cookie=check_cookie,
        )
        if answer is None:
            self._listening = None
            return session
        return answer if len(answer) <= len(hello) and not refused else b""

    def _listener(self, context: ServerContext) -> DtlsSession:
        if self._listening is None or self._listening[0] is not context:
            self._listening = (context, DtlsSession.server(context, mtu=self._mtu))
        return self._listening[1]
