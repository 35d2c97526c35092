"""Requests, refusals and limits in the form of gRPC: metadata, codes, and the details of a status."""

import json
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

import grpc

from awx_ratelimit.http.message import Headers, Request, text_headers
from awx_ratelimit.http.policy import Admission

Metadata = tuple[tuple[str, str | bytes], ...]
#: Describe a body, which an RPC does not have.
_OF_BODIES: Final = frozenset((b"content-type", b"content-length", b"cache-control"))
_CODES: Final[dict[int, grpc.StatusCode]] = {
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
}
_RETRY_INFO: Final = b"type.googleapis.com/google.rpc.RetryInfo"


def request_of(details: Any, context: Any) -> Request:
    """The RPC as a request: a POST to the path of its method, with its metadata as headers."""

    def values(name: bytes) -> list[bytes]:
        key = name.decode("latin-1")
        found = [value for known, value in details.invocation_metadata or () if known == key]
        return [value if isinstance(value, bytes) else value.encode("latin-1", "replace") for value in found]

    return Request("POST", details.method, _address(context.peer()), values, None, context)


def _address(peer: str) -> str | None:
    """The address in ``ipv4:192.0.2.1:5000`` or ``ipv6:[2001:db8::1]:5000``; None for a socket of another family."""
    family, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if family in ("ipv4", "ipv6") else None


def metadata_of(headers: Headers) -> Metadata:
    """`headers` as metadata, without those that describe a body."""
    return tuple(text_headers([pair for pair in headers if pair[0] not in _OF_BODIES]))


def report(admission: Admission, context: Any) -> None:
    """Report the limits again if the app has replaced the trailing metadata."""
    ours = metadata_of(admission.headers)
    names = {name for name, _ in ours}
    other = [(name, value) for name, value in context.trailing_metadata() or () if name not in names]
    context.set_trailing_metadata((*other, *ours))


def refusal_of(admission: Admission) -> tuple[grpc.StatusCode, str, Metadata]:
    """The code, the message and the trailing metadata of a refused RPC."""
    reply = admission.reply
    assert reply is not None
    code = _CODES.get(reply.status, grpc.StatusCode.RESOURCE_EXHAUSTED)
    try:
        text = str(json.loads(reply.body)["message"])
    except (ValueError, LookupError, TypeError):
        text = reply.body.decode("utf-8", "replace")
    wait_ms = admission.decision.retry_after_ms if admission.decision is not None else 0
    metadata = metadata_of(reply.headers)
    if wait_ms:
        metadata += (("grpc-status-details-bin", _status(code.value[0], text, wait_ms)),)
    return code, text, metadata


def _status(code: int, text: str, wait_ms: int) -> bytes:
    """A google.rpc.Status with a RetryInfo, in the encoding of protobuf. See google/rpc/error_details.proto."""
    seconds, ms = divmod(wait_ms, 1_000)
    delay = _number(1, seconds) + _number(2, ms * 1_000_000)
    info = _bytes(1, _RETRY_INFO) + _bytes(2, _bytes(1, delay))
    return _number(1, code) + _bytes(2, text.encode()) + _bytes(3, info)


def _number(field: int, value: int) -> bytes:
    return bytes([field << 3]) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
