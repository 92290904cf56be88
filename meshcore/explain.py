"""What each error code means, what usually causes it, and what to look at: the text of ``meshcore explain``."""

from __future__ import annotations

import attrs

from meshcore import errors
from meshcore.errors import MeshError

__all__ = ["EXPLANATIONS", "Explanation", "error_classes"]


@attrs.frozen
class Explanation:
    """One error code, for whoever has to find out why it was answered.

    Attributes:
        meaning: what happened, in a sentence or two.
        causes: the usual ones, the likeliest first.
        look_at: where to look, in the order in which it helps.
    """

    meaning: str
    causes: tuple[str, ...]
    look_at: tuple[str, ...]


def error_classes() -> dict[str, type[MeshError]]:
    """Every error class by its code, in the order of their codes."""
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, MeshError)]
    # Of classes that share a code the more general one is explained.
    return {cls.code: cls for cls in sorted(found, key=lambda cls: (cls.code, -len(cls.__mro__)))}


_CHAIN = "l5d-proxy-error on the answer: the whole chain of causes, the endpoint included"

EXPLANATIONS: dict[str, Explanation] = {
    "internal": Explanation(
        "Something failed that the proxy has no better name for; the request may or may not have been processed.",
        ("a bug in a layer of your own", "a bug in the proxy"),
        ("the log: the error stands there with its traceback", "crashes_total in /metrics, which should be 0"),
    ),
    "connect-failed": Explanation(
        "No connection could be made to an endpoint: it refused, was unreachable, or reset the attempt.",
        (
            "nothing listens at that address and port",
            "the process was restarted, or is not up yet",
            "a firewall or a network policy rejects the connection",
        ),
        (
            _CHAIN,
            "`curl -v` or `nc -z` to the endpoint from where the proxy runs",
            "tcp_close_total by errno in /metrics",
        ),
    ),
    "circuit-open": Explanation(
        "An endpoint failed too often, so that it is left alone for a while: its circuit breaker is open.",
        (
            "the endpoint answers with errors, or does not answer in time",
            "its success rate was below what failure_accrual asks for",
            "the request that tried whether it is well again has failed, too",
        ),
        (
            "/stack: the state of the breaker and why it opened",
            "circuit_breaker_trips_total by endpoint in /metrics",
            "response_total with classification=failure by endpoint",
        ),
    ),
    "connect-timeout": Explanation(
        "An endpoint did not accept a connection in time (1 s by default).",
        (
            "packets to it are dropped: wrong address, firewall, node gone",
            "its accept queue is full because it is overloaded",
            "it is far away and the limit is too tight",
        ),
        (_CHAIN, "`ss -ltn` at the endpoint: a Recv-Q near its Send-Q is a full accept queue"),
    ),
    "tls-failed": Explanation(
        "The TLS handshake with an endpoint failed. It is never tried again in plaintext.",
        (
            "the endpoint speaks plaintext at that port: use http:// or h2c://",
            "its certificate is expired, for another name, or from an authority that is not trusted here",
            "no TLS version or protocol (ALPN) in common",
            "a clock is wrong",
        ),
        (_CHAIN, "`openssl s_client -connect HOST:PORT -servername NAME -alpn h2,http/1.1`", "both clocks"),
    ),
    "identity-mismatch": Explanation(
        "The endpoint proved who it is, and it is not who was required.",
        (
            "the address was taken over by another workload and discovery is behind",
            "the required name is misspelt, or its trust domain is another",
        ),
        ("the required and the found name in l5d-proxy-error", "the endpoint's certificate: its DNS and URI names"),
    ),
    "connection-lost": Explanation(
        "A connection to an endpoint broke in the middle of an exchange.",
        (
            "the endpoint crashed or was killed",
            "it closes idle connections sooner than the proxy does, and a request met the closing",
            "a load balancer or NAT in between forgot the connection",
        ),
        (_CHAIN, "the endpoint's own log at that moment", "response_total with classification=failure by endpoint"),
    ),
    "no-route": Explanation(
        "No route matches the request's host and path.",
        ("the host header is not the one the routes name", "the route was not deployed here"),
        ("`curl -v` for the host that is really sent", "/config and /stack of the proxy"),
    ),
    "redirect": Explanation(
        "A route's filter sends the client elsewhere; nothing is wrong.",
        ("the route says so",),
        ("the location field of the answer", "/config: the filters of the route"),
    ),
    "injected-failure": Explanation(
        "A route's filter fails a share of its requests on purpose.",
        ("an experiment is going on", "an experiment has ended and its filter was left"),
        ("/config: inject_failure among the filters of routes and backends",),
    ),
    "no-endpoints": Explanation(
        "The backend exists and has no endpoint at all.",
        ("the service is scaled to zero", "its name resolves to nothing", "every endpoint has weight 0"),
        ("/stack: the balancer's endpoints", "the discovery source itself: `dig`, the file, the registry"),
    ),
    "fail-fast": Explanation(
        "No endpoint became ready in time, so requests are refused at once until one is.",
        (
            "every endpoint refuses connections or does not answer them",
            "every endpoint was taken out because of its failures",
            "discovery has not answered yet",
        ),
        ("/stack: the state of each endpoint and why", "connect-failed and connect-timeout in the log before it"),
    ),
    "not-ready": Explanation(
        "The endpoint takes no requests at the moment, and there was no balancer to find another one.",
        ("its health check fails", "its circuit breaker is open after failures"),
        (_CHAIN, "/stack: the status of each endpoint, and what its health check or breaker counts"),
    ),
    "load-shed": Explanation(
        "The proxy holds as many requests as it may and refuses further ones instead of making them wait.",
        (
            "more requests at once than the limit allows",
            "the backend became slow, so that requests pile up: look there first",
        ),
        ("requests in flight and response_latency_ms in /metrics", "whether the limit fits the machine"),
    ),
    "response-timeout": Explanation(
        "An endpoint took the request and did not begin its answer in time. The work may go on there.",
        (
            "the endpoint is slow or stuck",
            "it waits for something behind it",
            "the limit is tighter than its slowest honest answer",
        ),
        ("response_latency_ms by endpoint", "the endpoint's own trace of the request", "--timeout"),
    ),
    "stream-timeout": Explanation(
        "An exchange exceeded its total limit, or nothing moved in it for longer than its idle limit.",
        ("a body larger or slower than the limit allows for", "a peer that stopped reading or sending without closing"),
        (
            _CHAIN,
            "which limit it was: request, response or idle",
            "whether streams without an end share a route with short requests",
        ),
    ),
    "request-body": Explanation(
        "The client's request body broke before its end.",
        ("the client went away while it sent", "the body was shorter than its content-length said"),
        ("the client's log", "whether something between client and proxy limits uploads"),
    ),
    "stream-reset": Explanation(
        "The peer reset the HTTP/2 stream; the error carries its code.",
        (
            "REFUSED_STREAM: it was over its limit of streams and processed nothing; tried again where possible",
            "CANCEL: it gave up, often because of a deadline of its own",
            "INTERNAL_ERROR or PROTOCOL_ERROR: a fault at that side",
            "ENHANCE_YOUR_CALM: it takes the traffic for abuse",
        ),
        ("the code in l5d-proxy-error", "the log of the side that sent it"),
    ),
    "goaway": Explanation(
        "The endpoint is closing its connection and has not processed this request, so that it is safe to send again.",
        (
            "the endpoint is shutting down or reached a maximum connection age",
            "it restarts more often than retries cover",
        ),
        ("restarts of the endpoint", "whether retries are allowed: --retries"),
    ),
    "local-protocol": Explanation(
        "Something in the proxy tried to send a message that the protocol forbids, and was stopped.",
        ("a layer set a header with an illegal name or value", "a layer changed a body and left its content-length"),
        ("the message: it names the field", "the layers of your own in /stack"),
    ),
    "bad-request": Explanation(
        "The client broke the protocol, or a limit of it: the request was never forwarded.",
        (
            "ambiguous framing: content-length with transfer-encoding, a repeated or malformed length",
            "a head beyond 64 KiB, a request line beyond 8 KiB, more than 100 fields",
            "a client that speaks TLS or something else to an HTTP port",
        ),
        (
            "the message: it names the rule",
            "the client's library and its version",
            "whether the port should be opaque: tcp://",
        ),
    ),
    "bad-response": Explanation(
        "The endpoint's answer broke the protocol and was not passed on.",
        (
            "a framing or a header that is forbidden, which other proxies let through",
            "the endpoint speaks another protocol at that port: HTTP/1 where h2c:// was said, or TLS",
        ),
        (_CHAIN, "`curl -v --http1.1` and `curl -v --http2-prior-knowledge` to the endpoint itself"),
    ),
    "unauthorized": Explanation(
        "The client may not make this request.",
        (
            "no policy names it: neither its identity nor the network that it comes from",
            "it came without mutual TLS, or with a certificate that has no name that counts",
            "it comes from an exception of a network that is let in",
        ),
        (
            "the message: who it is, and the policy that decided",
            "inbound_http_authz_deny_total in /metrics, by client_id",
            "[[inbound.policy]] and default_policy in the config of the server that it reached",
        ),
    ),
    "unauthenticated": Explanation(
        "The client has shown no token, or one that is not accepted.",
        (
            "the token has expired, or the clocks of issuer and proxy differ by more than the leeway",
            "it is of another issuer, or for another audience",
            "it is signed by a key that the proxy does not know, or by an algorithm that is not allowed",
            "the client sends none: authorization: Bearer TOKEN",
        ),
        (
            "the message: it says what was wrong with it",
            "inbound_http_jwt_total in /metrics, by result",
            "jwt in the config: issuer, audience, algorithms, keys",
        ),
    ),
    "no-keys": Explanation(
        "Tokens cannot be checked: the keys of their issuer could not be had since the proxy was started.",
        ("the address of the keys is wrong, or cannot be reached from here", "what is there is no JSON Web Key Set"),
        (
            "the log: each failure to get them is told with its reason",
            "jwt_key_refreshes_total in /metrics",
            "`curl` to the address in jwt.keys from where the proxy runs",
        ),
    ),
    "rate-limited": Explanation(
        "The client asks for more than a rate limit lets in; retry-after says when there is room for one more request.",
        (
            "the client sends faster than its share: a loop, a batch, retries without backoff",
            "the limit is of all clients together, and somebody else uses it up",
            "clients without an identity, or without the header that is counted by, share one limit",
        ),
        (
            "the message: it names the limit, total, override, per-identity or per-header, and its rate",
            "inbound_http_local_ratelimit_total in /metrics, by client_id",
            "rate_limit in the config",
        ),
    ),
    "authorization-unavailable": Explanation(
        "The service that decides about requests could not be asked, and the configuration says that none may pass "
        "without its answer.",
        (
            "it is down, or its address is wrong",
            "it takes longer than the timeout (200 ms by default)",
            "its answer is malformed, or sets a field that it must not",
        ),
        (
            "what follows in l5d-proxy-error: why it could not be asked",
            "inbound_http_ext_authz_total by result in /metrics",
            "ext_authz in the config: the URL, timeout, on_error",
        ),
    ),
    "grpc-status": Explanation(
        "A gRPC call that the proxy made itself, to a service that it asks about requests, ended with another status "
        "than OK.",
        (
            "that service is not there, or took longer than it was given",
            "another service answers at its address, or an older one that does not know the method",
        ),
        ("the status and its message in l5d-proxy-error", "that service's own log"),
    ),
    "loop-detected": Explanation(
        "The request would come back to the proxy that it came from.",
        ("an endpoint's address is the proxy's own", "two proxies forward to each other"),
        ("the forwarded and via fields of the request", "/config: listen addresses and endpoints"),
    ),
    "config": Explanation(
        "The configuration or the command line is wrong; nothing was started or changed.",
        ("a misspelt name", "a value of the wrong form"),
        ("the message: every mistake stands on its own line, with the nearest known name",),
    ),
}
"""By code, as in the header ``x-meshcore-error``."""
