"""Finds out whether a server that does not answer uses TLS although its URL says that it does not, or the reverse.

Neither side says so: a server without TLS waits for the rest of a command, and one with TLS resets the connection.
"""

import socket
import ssl
from typing import Final

from awx_ratelimit.backends.redis.endpoint import Endpoint

#: A server near by answers within milliseconds. A process must not start much later because one is down.
_TIMEOUT_S: Final = 0.5
_PING: Final = b"PING\r\n"
#: How replies to PING begin: of a server that needs a password, too.
_REPLIES: Final = (b"+PONG", b"-")


def wrong_scheme(endpoint: Endpoint) -> str:
    """What to write instead of the scheme of the URL, and why; empty if it is right or nobody answers."""
    if endpoint.path:
        return ""
    try:
        with socket.create_connection((endpoint.host, endpoint.port), _TIMEOUT_S) as sock:
            sock.settimeout(_TIMEOUT_S)
            if endpoint.trust is not None:
                return "it does not use TLS; write redis instead of rediss in the URL" if _answers(sock) else ""
            _shake_hands(sock)
            return "it uses TLS; write rediss instead of redis in the URL"
    except OSError:
        return ""


def _answers(sock: socket.socket) -> bool:
    """Whether a server without TLS is at the other end."""
    sock.sendall(_PING)
    return sock.recv(16).startswith(_REPLIES)


def _shake_hands(sock: socket.socket) -> None:
    """Raise OSError unless a server with TLS is at the other end. Nothing is sent to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.wrap_socket(sock).close()
