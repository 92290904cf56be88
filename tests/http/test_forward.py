"""What a proxy changes in a message that it sends on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.http import forward


@pytest.mark.parity("D-29", "X-71")
def test_fields_of_a_connection_and_what_it_names_are_stripped() -> None:
    fields = [
        (b"connection", b"close, X-Hop, host"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-connection", b"x"),
        (b"upgrade", b"websocket"),
        (b"transfer-encoding", b"chunked"),
        (b"http2-settings", b"x"),
        (b"te", b"gzip"),
        (b"x-hop", b"1"),
    ]
    kept = [(b"host", b"a"), (b"te", b"trailers"), (b"content-length", b"5"), (b"x", b"y")]
    assert kept == forward.strip_connection(fields + kept)


def test_via_is_extended_in_its_last_field() -> None:
    assert [(b"a", b"b"), (b"via", b"1.1 us")] == forward.append_via([(b"a", b"b")], 11, b"us")
    fields = [(b"via", b"1.0 x"), (b"via", b"2.0 y"), (b"a", b"b")]
    assert [(b"via", b"1.0 x"), (b"via", b"2.0 y, 2.0 us"), (b"a", b"b")] == forward.append_via(fields, 20, b"us")
    assert [(b"via", b"1.0 us")] == forward.append_via([(b"via", b"")], 10, b"us")


def test_forwarded_says_by_whom_and_for_whom() -> None:
    fields = forward.append_forwarded([], by=b"gateway", for_=b"[::1]:80", host=b"a.test", proto=b"https")
    assert [(b"forwarded", b'by=gateway;for="[::1]:80";host=a.test;proto=https')] == fields
    with pytest.raises(ValueError, match="control character"):
        forward.append_forwarded([], by=b"a\r\nb", for_=b"", host=b"", proto=b"")


def test_a_loop_is_seen_in_forwarded() -> None:
    fields = forward.append_forwarded([], by=b"x", for_=b"y", host=b"z", proto=b"http")
    fields = forward.append_forwarded(fields, by=b'us "quoted\\"', for_=b"y", host=b"z", proto=b"http")
    assert forward.forwarded_by(fields, b"x")
    assert forward.forwarded_by(fields, b'us "quoted\\"')
    assert not forward.forwarded_by(fields, b"y")
    assert not forward.forwarded_by([(b"forwarded", b'for="by=us"'), (b"x", b"by=us")], b"us")
    assert forward.forwarded_by([(b"forwarded", b"for=_a ; BY=Us , for=b")], b"us")
    assert forward.forwarded_by([(b"forwarded", b'for="unterminated, by=them, by="us"')], b"us")
    assert not forward.forwarded_by([(b"forwarded", b"by=us2, by=us.other")], b"us")


@given(st.binary(max_size=20).filter(lambda value: not any((b < 32 and b != 9) or b == 127 for b in value)))
def test_whatever_is_written_to_forwarded_is_read_back(identity: bytes) -> None:
    fields = forward.append_forwarded([(b"forwarded", b"for=a")], by=identity, for_=b",;", host=b"", proto=b"http")
    assert forward.forwarded_by(fields, identity)


def test_a_websocket_crosses_between_the_protocols_and_the_key_stays_on_http_1() -> None:
    fields = [(b"sec-websocket-key", b"a2V5"), (b"content-length", b"0"), (b"sec-websocket-version", b"13")]
    assert ([fields[2]], b"a2V5") == forward.upgrade_to_connect(fields)
    assert ([fields[2]], None) == forward.upgrade_to_connect(fields[2:])
    assert [fields[2], (b"sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA==")] == forward.connect_to_upgrade(
        fields, b"\x00" * 16
    )


def test_the_answer_to_a_websocket_key() -> None:
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" == forward.accept_websocket(b"dGhlIHNhbXBsZSBub25jZQ==")
