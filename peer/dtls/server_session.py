"""A server's session, which begins with the stateless cookie exchange (RFC 6347 §4.2.1)."""

from collections.abc import Callable

from OpenSSL import SSL

from peer.dtls.context import ServerContext
from peer.dtls.session import DtlsSession

_HELLO_BYTES = 1 << 14  # DTLSv1_listen reads no more; the rest would stay for the next call


class ServerSession(DtlsSession):
    """A server's association. It waits for `listen_untrusted`.

    With a context without cookies, it waits for the ClientHello in `receive_untrusted` instead.
    """

    __slots__ = ("_check_cookie", "_make_cookie")

    def __init__(self, context: ServerContext, *, mtu: int) -> None:
        super().__init__(context.ssl, mtu=mtu)
        self._connection.set_accept_state()
        self._make_cookie: Callable[[], bytes] | None = None
        self._check_cookie: Callable[[bytes], bool] | None = None

    def listen_untrusted(
        self,
        hello: bytes,
        *,
        make_cookie: Callable[[], bytes],
        check_cookie: Callable[[bytes], bool],
    ) -> bytes | None:
        """Process an initial ClientHello, or its first fragment (RFC 6347 §4.2.1).

        Args:
            hello: the record of the ClientHello. It contains the cookie.
            make_cookie: returns the cookie for its source.
            check_cookie: verifies a cookie; called once, before anything is computed or signed.

        Returns:
            None if the cookie is valid: the handshake has begun. Otherwise the HelloVerifyRequest
            to send, or empty bytes for no response. Nothing of the ClientHello is stored, and the
            object can process the next one.
        """
        if len(hello) > _HELLO_BYTES:
            return b""
        valid = b""

        def check(cookie: bytes) -> bool:
            nonlocal valid
            valid = cookie
            return check_cookie(cookie)

        self._make_cookie, self._check_cookie = make_cookie, check
        try:
            self._connection.bio_write(hello)
            self._connection.DTLSv1_listen()
        except SSL.Error:
            self._make_cookie = self._check_cookie = None
            return self._drain()
        # OpenSSL verifies the cookie again when the ClientHello is complete: a later fragment can
        # overlap the first one. It has to be the one that was valid, which may have expired.
        self._make_cookie, self._check_cookie = None, lambda cookie: cookie == valid
        self._step()
        return None

    def _forget_handshake(self) -> None:
        super()._forget_handshake()
        self._make_cookie = self._check_cookie = None

    def make_cookie(self) -> bytes:
        """Return a cookie. Only for OpenSSL's callback."""
        return self._make_cookie() if self._make_cookie else b""

    def check_cookie(self, cookie: bytes) -> bool:
        """Verify a cookie. Only for OpenSSL's callback."""
        return self._check_cookie is not None and self._check_cookie(cookie)
