"""Config files to start from, with a comment at each key."""

from __future__ import annotations

__all__ = ["STARTERS"]

_SIDECAR = """\
# A sidecar: the application's calls go out by [outbound], others' calls come in by [inbound].
# `meshcore check -c FILE` tells every mistake; `meshcore run -c FILE` runs it; all keys: docs/reference/config.md.
# Paths are relative to this file.

[service]
name = "orders"
namespace = "shop"

[identity]                           # without this table everything is plain TCP
mode = "files"                       # or "dev": an own authority in a folder, for trying on one machine
cert = "orders.crt"                  # these three are watched: new ones are taken without a restart
key = "orders.key"                   # `meshcore identity dev-ca` and `issue` write such files
trust_anchors = "ca.crt"

[inbound]
listen = "0.0.0.0:4143"              # where other sidecars connect to
forward = "127.0.0.1:8000"           # the application
default_policy = "all-unauthenticated"  # who may call; "all-authenticated": only those with a certificate of the mesh
# rate_limit = { rps = 500, per_identity = 50 }  # more than that is answered 429

# [[inbound.policy]]                 # or who may call, by name and network: what permits nobody refuses
# identities = ["web.shop"]
# identity_suffixes = ["*.jobs.shop"]

[outbound]
listen = "127.0.0.1:4140"            # where the application sends its requests, as to a proxy

[outbound.to."payments:80"]          # an authority that the application uses; one table for each
endpoints = ["10.0.0.7:4143"]        # or discover = "dns:HOST:PORT", "dns+srv:NAME", "file:payments.json"
identity = "payments.shop"           # who must answer: mutual TLS, or 502
timeout = { request = "10s" }        # also response and idle
retry = { limit = 1, budget = 0.2 }  # further tries, at most 20 % of the requests
failure_accrual = { consecutive = 7, penalty = "1s..1m" }  # who fails so often is left alone

# [tracing]                          # traces that requests come with are continued, and some begun
# collector = "http://127.0.0.1:4318"  # by OTLP over HTTP
# sample = 0.01

[admin]
listen = "127.0.0.1:4191"            # /ready, /metrics and more; "off" for none

[proxy]
grace_period = "120s"                # what is in flight may take so long once the drain began
access_log = "off"                   # or "text", "json"; [access_log] has templates, samples, files
log_level = "info"                   # by logger, too: "info,meshcore.layers=debug"
"""

_GATEWAY = """\
# A gateway: what is accepted goes to backends by its route.
# `meshcore check -c FILE` tells every mistake; `meshcore run -c FILE` runs it; all keys: docs/reference/config.md.
# Paths are relative to this file.

[listen.public]
bind = "0.0.0.0:8443"
tls = { cert = "site.pem", key = "site.key" }  # watched; client_certificates = "required" asks for one
to = [{ backend = "site" }]          # what no route takes
timeout = { request = "30s" }

[[listen.public.route]]
match = [{ host = "api.example.com" }, { host = "*.api.example.com" }]
# path = { prefix = "/v1" }, headers, query and method tell requests apart, too; filters change them.
to = [{ backend = "api" }]           # several of these with a weight each share the requests

[backend.site]
endpoints = ["10.0.0.11:8080", { address = "10.0.0.12:8080", weight = 2 }]

[backend.api]
endpoints = ["10.0.0.21:8080"]
protocol = "h2c"                     # always HTTP/2; "http" is the version that the request came in with
balance = "p2c-ewma"                 # or "least-request", "maglev" …

[admin]
listen = "127.0.0.1:4191"            # /ready, /metrics and more; "off" for none
"""

STARTERS = {"sidecar": _SIDECAR, "gateway": _GATEWAY}
"""Text by what it is for."""
