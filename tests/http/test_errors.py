"""The error tree: every class complete, every hint one that exists."""

from __future__ import annotations

import http

import pytest

from meshcore import errors
from meshcore.errors import (
    REFUSED_STREAM,
    BodyAbandoned,
    ConfigError,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    FailFastError,
    GoAway,
    LoadShedError,
    MeshError,
    NoEndpoints,
    Redirected,
    RemoteProtocolError,
    StreamReset,
    TlsError,
    TlsRefused,
    again,
    chain,
    inside,
)
from meshcore.http.grpc import GrpcStatus

CLASSES = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, MeshError)
]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_is_complete(cls: type[MeshError]) -> None:
    assert cls.__name__ in errors.__all__
    assert cls.__doc__
    assert cls.code == cls.code.lower().strip()
    assert http.HTTPStatus(cls.status_hint) >= (301 if cls is Redirected else 400)
    assert GrpcStatus(cls.grpc_hint) != GrpcStatus.OK
    assert cls.h2_hint in range(1, 14)
    assert cls.source in ("client", "upstream", "proxy")
    # One is two things at once: a handshake that failed after it had been done, by which a connection is lost.
    assert len(cls.__mro__) - MeshError.__mro__.__len__() <= (4 if cls is TlsRefused else 2)


def test_all_names_are_there() -> None:
    assert sorted(errors.__all__) == errors.__all__
    assert {cls.__name__ for cls in CLASSES} | {"again", "caused", "chain", "inside", "leaves"} == set(errors.__all__)


def test_codes_are_unique_but_for_special_cases_of_the_same_thing() -> None:
    by_code: dict[str, type[MeshError]] = {}
    for cls in CLASSES:
        other = by_code.setdefault(cls.code, cls)
        assert issubclass(cls, other)


def test_what_was_not_processed_is_retryable() -> None:
    for cls in (ConnectError, ConnectTimeout, TlsError, NoEndpoints, FailFastError, LoadShedError, GoAway):
        assert cls("x").retryable
        assert not cls("x", retryable=False).retryable
    assert not ConnectionLost("x").retryable
    assert ConnectionLost("x", retryable=True).retryable
    assert StreamReset("x", h2_code=7).retryable
    assert not StreamReset("x", h2_code=8).retryable
    assert not StreamReset("x", h2_code=7, retryable=False).retryable
    assert not BodyAbandoned().retryable


def test_some_carry_more() -> None:
    assert (431, 9) == (lambda error: (error.status, error.h2_code))(RemoteProtocolError("x", status=431, h2_code=9))
    assert ("a\nb", ["a", "b"]) == (lambda error: (str(error), error.problems))(ConfigError(["a", "b"]))


@pytest.mark.parity("E-03")
def test_a_chain_is_every_message_once_from_the_outermost_on() -> None:
    cause = OSError("connection refused")
    middle = ConnectError("endpoint 10.0.0.1:80: connection refused")
    middle.__cause__ = cause
    outer = FailFastError()
    outer.__cause__ = middle

    # A cause whose words are in the message above it would only repeat them.
    assert "service in fail-fast: endpoint 10.0.0.1:80: connection refused" == chain(outer)
    assert "ValueError" == chain(ValueError())


@pytest.mark.parity("E-03")
def test_a_chain_names_what_each_error_happened_in_from_the_outside() -> None:
    cause = ConnectTimeout("endpoint 10.0.0.7:4143: connect timed out after 1s")
    inside(cause, "backend Service.x")
    inside(cause, "route default.http")
    inside(cause, "route default.http")
    inside(cause, "logical service a.ns:80")
    told = (
        "logical service a.ns:80: route default.http: backend Service.x: endpoint 10.0.0.7:4143: "
        "connect timed out after 1s"
    )
    assert told == chain(cause)
    assert "endpoint 10.0.0.7:4143: connect timed out after 1s" == str(cause)
    # A copy for another task says the same, and what is noted of it stays its own.
    copied = again(cause)
    inside(copied, "gateway")
    assert f"gateway: {told}" == chain(copied)
    assert told == chain(cause)

    # What a message begins with, or was said further out, is not said twice.
    outer = FailFastError("backend Service.x: service in fail-fast")
    inside(outer, "backend Service.x")
    inside(outer, "logical service a.ns:80")
    outer.__cause__ = cause
    assert (
        "logical service a.ns:80: backend Service.x: service in fail-fast: route default.http: "
        "endpoint 10.0.0.7:4143: connect timed out after 1s"
    ) == chain(outer)
    inside(ValueError("not ours"), "anything")


def test_a_chain_that_bites_its_tail_ends() -> None:
    first, second = MeshError("a"), MeshError("b")
    first.__cause__, second.__cause__ = second, first
    assert "a: b" == chain(first)


def test_a_chain_says_what_the_system_said_once_and_without_its_number() -> None:
    refused = errors.ConnectError("endpoint 10.0.0.1:80: connection refused")
    refused.__cause__ = ConnectionRefusedError(111, "Connection refused")
    assert "endpoint 10.0.0.1:80: connection refused" == chain(refused)


def test_an_error_that_is_raised_again_says_the_same() -> None:
    cause = OSError("gone")
    for error in (
        StreamReset("x", h2_code=REFUSED_STREAM),
        BodyAbandoned("x"),
        ConfigError(["a", "b"]),
        ConnectionLost("x", retryable=True),
    ):
        error.__cause__ = cause
        other = again(error)
        assert isinstance(other, MeshError)
        assert other is not error
        assert (type(error), str(error), error.args) == (type(other), str(other), other.args)
        assert vars(error) == vars(other)
        assert other.__cause__ is cause
        assert other.__traceback__ is None
    strange = ValueError("x")
    assert again(strange) is strange
