"""Why a request had no answer, in words that say what to look at."""

import socket
import ssl

from awx_ratelimit.loadtest.load.http_parser import ParseError

#: What may go wrong on the way.
BROKEN = (OSError, ParseError)


def why(error: Exception, timeout_ms: int) -> str:
    """A sentence on `error`, one of BROKEN."""
    if isinstance(error, TimeoutError):
        return f"no whole answer within {timeout_ms / 1_000:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there: the connection was refused"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}; SSL_CERT_FILE names whom to trust"
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection could be made: {error.reason or error}"
    if isinstance(error, socket.gaierror):
        return f"its host is not known: {error.strerror}"
    return f"the connection broke: {str(error) or type(error).__name__}"
