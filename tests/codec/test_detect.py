"""Which protocol a prefix begins, whole and as it grows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.codec.detect import MAX_PREFIX, PREFACE, Detection, detect

HTTP1, HTTP2, TLS, OPAQUE, UNDECIDED = (
    Detection.HTTP1,
    Detection.HTTP2,
    Detection.TLS,
    Detection.OPAQUE,
    Detection.UNDECIDED,
)


def decided(data: bytes) -> tuple[Detection, int]:
    """What *data* is found to be when it comes byte by byte, and after how many."""
    for size in range(len(data) + 1):
        if (found := detect(data[:size])) is not UNDECIDED:
            return found, size
    return UNDECIDED, len(data)


@pytest.mark.parity("D-02", "D-03", "D-04")
@pytest.mark.parametrize(
    ("data", "protocol", "size"),
    [
        (b"GET / HTTP/1.1\r\n", HTTP1, 5),
        (b"\r\nGET / HTTP/1.1\r\n", HTTP1, 7),
        (b"PROPFIND / HTTP/1.1\r\n", HTTP1, 16),
        (b"GET http://a/ HTTP/1.1\r\n", HTTP1, 19),
        (b"CONNECT a:443 HTTP/1.1\r\n", HTTP1, 19),
        (b"OPTIONS * HTTP/1.1\r\n", HTTP1, 15),
        (b"GET /\r\n", HTTP1, 5),
        (b"GET / HTTP/2.0\r\n", HTTP1, 5),
        (PREFACE, HTTP2, 24),
        (PREFACE[:-2] + b"XX", HTTP1, 23),
        (b"\x16\x03\x01\x02\x00\x01", TLS, 2),
        (b"\x16\x04", OPAQUE, 2),
        (b"\x00\x00\x00\x01", OPAQUE, 1),
        (b"\xff", OPAQUE, 1),
        (b"\n", OPAQUE, 1),
        (b" GET / HTTP/1.1", OPAQUE, 1),
        (b"\r\n\r\nGET /", OPAQUE, 3),
        (b"\rGET /", OPAQUE, 2),
        (b"GET\t/ HTTP/1.1", OPAQUE, 4),
        (b"GET  / HTTP/1.1", OPAQUE, 5),
        (b"EHLO mail.example\r\n", OPAQUE, 18),
        (b"SSH-2.0-OpenSSH_9.6\r\n", OPAQUE, 20),
        (b"*1\r\n$4\r\nPING\r\n", OPAQUE, 3),
        (b"SET key value\r\n", OPAQUE, 9),
        (b"OPTIONS rtsp://a/b RTSP/1.0\r\n", OPAQUE, 20),
        (b"INVITE sip:a@b SIP/2.0\r\n", OPAQUE, 16),
        (b"SOURCE /mount ICE/1.0\r\n", OPAQUE, 15),
        (b"A" * 65, OPAQUE, 65),
    ],
)
def test_a_prefix_is_decided_at_the_first_byte_that_can_decide_it(data: bytes, protocol: Detection, size: int) -> None:
    assert (protocol, size) == decided(data)


@pytest.mark.parity("D-01", "U-01")
@pytest.mark.parametrize(
    "data", [b"", b"P", b"PRI * HTTP/2.0\r\n", b"GET", b"GET ", b"\r", b"\r\n", b"\x16", b"PUT a", b"X /a H"]
)
def test_a_prefix_that_could_become_either_is_undecided(data: bytes) -> None:
    assert UNDECIDED is detect(data)


def test_a_prefix_that_stays_undecided_for_too_long_is_opaque() -> None:
    assert UNDECIDED is detect(b"GET a" + b"a" * (MAX_PREFIX - 5))
    assert OPAQUE is detect(b"GET a" + b"a" * (MAX_PREFIX - 4))


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_what_was_decided_once_stays_so(prefix: bytes, more: bytes) -> None:
    if (found := detect(prefix)) is not UNDECIDED:
        assert found is detect(prefix + more)
