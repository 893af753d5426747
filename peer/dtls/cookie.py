"""The stateless cookie exchange (HelloVerifyRequest, RFC 6347 §4.2.1).

No state is stored for a source address before it has proved that it receives datagrams, and the
response is never longer than the request. One OpenSSL object listens for all sources: it processes
one ClientHello after another and stores nothing, until a valid cookie makes it a session; the next
ClientHello gets a new object. So a ClientHello without a cookie, or one that may not begin, costs
neither an object nor a signature. The cookie is a MAC over the source of the datagram: BLAKE2s with
a key (RFC 7693). The key is replaced regularly; the previous key stays valid, so that the change
breaks no handshake.
"""

import hmac
from collections.abc import Callable
from hashlib import blake2s

from peer.dtls.context import ServerContext
from peer.dtls.server_session import ServerSession

_COOKIE_BYTES = 32


class CookieKeys:
    """Makes and verifies cookies.

    Args:
        new_key: returns 32 random bytes.
        lifetime: how long a key is the current one, in seconds; then it is the previous one.
    """

    def __init__(self, new_key: Callable[[], bytes], *, lifetime: float) -> None:
        self._new_key = new_key
        self._lifetime = lifetime
        self._keys = [new_key(), new_key()]
        self._replaced_at: float | None = None

    def make(self, where: bytes, now: float) -> bytes:
        """Return the cookie for a source; `now` is in monotonic seconds."""
        self._replace_keys(now)
        return self._cookie(self._keys[0], where)

    def check(self, where: bytes, cookie: bytes, now: float) -> bool:
        """Return whether a cookie is valid for a source, under one of the two keys."""
        self._replace_keys(now)
        matches = [hmac.compare_digest(self._cookie(key, where), cookie) for key in self._keys]
        return any(matches)

    def _replace_keys(self, now: float) -> None:
        if self._replaced_at is None:
            self._replaced_at = now
        periods = int((now - self._replaced_at) // self._lifetime)
        if periods > 0:
            newest = self._keys[0] if periods == 1 else self._new_key()
            self._keys = [self._new_key(), newest]
            self._replaced_at += periods * self._lifetime

    @staticmethod
    def _cookie(key: bytes, where: bytes) -> bytes:
        return blake2s(where, key=key, digest_size=_COOKIE_BYTES).digest()


class CookieGate:
    """Turns a ClientHello with a valid cookie into a session. `mtu` is in bytes."""

    def __init__(self, keys: CookieKeys, *, mtu: int) -> None:
        self._keys = keys
        self._mtu = mtu
        self._listening: tuple[ServerContext, ServerSession] | None = None

    def admit_untrusted(
        self,
        hello: bytes,
        *,
        context: ServerContext,
        where: bytes,
        now: float,
        may_begin: Callable[[], bool],
    ) -> ServerSession | bytes:
        """Process an initial ClientHello.

        Args:
            hello: the record of the ClientHello.
            context: the server's context.
            where: its source: address, port, and interface if the address is link-local.
            now: the monotonic time in seconds.
            may_begin: called after the cookie is verified, and before anything is computed; if it
                returns False, there is neither a session nor a response.

        Returns:
            The new session, or the datagram to send, which is empty for no response.
        """
        refused = False

        def check_cookie(cookie: bytes) -> bool:
            nonlocal refused
            is_valid = self._keys.check(where, cookie, now)
            refused = is_valid and not may_begin()
            return is_valid and not refused

        session = self._listener(context)
        answer = session.listen_untrusted(
            hello,
            make_cookie=lambda: self._keys.make(where, now),
            check_cookie=check_cookie,
        )
        if answer is None:
            self._listening = None
            return session
        return answer if len(answer) <= len(hello) and not refused else b""

    def _listener(self, context: ServerContext) -> ServerSession:
        if self._listening is None or self._listening[0] is not context:
            self._listening = (context, ServerSession(context, mtu=self._mtu))
        return self._listening[1]
