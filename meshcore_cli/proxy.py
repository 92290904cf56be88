"""``meshcore proxy``: a reverse proxy from its command line alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore_cli.parser import PROBLEM, Parser, fail

if TYPE_CHECKING:
    import argparse

DESCRIPTION = """\
Runs a reverse proxy in front of one or more endpoints, with no config file.

  meshcore proxy --from :8080 --to 10.0.0.7:8000,10.0.0.8:8000
  meshcore proxy --from :8443 --tls-cert site.pem --tls-key site.key --to https://backend.internal
  meshcore proxy --from :5432 --to tcp://10.0.0.9:5432

SIGTERM or SIGINT drains: nothing new is accepted, what is in flight is finished within the grace period; a
second signal stops at once.  The line `ready from=…` in the log says where it listens."""


def add_arguments(parser: Parser) -> None:
    """The options; their values are read by the library, which tells every mistake at once."""
    traffic = parser.add_argument_group("traffic")
    traffic.add_argument(
        "--from",
        dest="listen",
        metavar="ADDR",
        action="append",
        default=[],
        help="HOST:PORT, :PORT or [::]:PORT to accept at; may be repeated.  HTTP/1, HTTP/2 and other bytes are told "
        "apart; h2c://, http1:// or tcp:// in front forces one.  Port 0 takes a free one",
    )
    traffic.add_argument(
        "--to",
        metavar="URL[,URL…]",
        action="append",
        default=[],
        help="where to forward: HOST:PORT, http:// (the version the request came in with), h2c:// (HTTP/2), http1:// "
        "(HTTP/1.1), https:// (TLS, version by ALPN), tcp:// (bytes)",
    )
    traffic.add_argument("--tls-cert", metavar="FILE", help="terminate TLS with this certificate chain (PEM)")
    traffic.add_argument("--tls-key", metavar="FILE", help="and this private key (PEM)")
    traffic.add_argument(
        "--upstream-ca", metavar="FILE", help="authorities for https:// endpoints; default: the system's"
    )
    traffic.add_argument(
        "--opaque-ports", metavar="PORT[,PORT…]", help="ports of --from whose bytes are forwarded at once, undetected"
    )
    policy = parser.add_argument_group("policy")
    policy.add_argument(
        "--timeout", metavar="DURATION", help="longest wait for an answer's head, each try; default: none"
    )
    policy.add_argument("--retries", metavar="N", default="1", help="further tries where that is safe (default: 1)")
    policy.add_argument(
        "--balance",
        metavar="NAME",
        default="p2c-ewma",
        help="p2c-ewma (default), p2c-penalty-ewma, round-robin or least-request",
    )
    policy.add_argument(
        "--grace-period", metavar="DURATION", default="120s", help="bound of the drain at the end (default: 120s)"
    )
    running = parser.add_argument_group("running")
    running.add_argument("--engine", metavar="NAME", default="auto", help="auto (default) or pure: pure-Python codecs")
    running.add_argument(
        "--admin", metavar="ADDR|off", default="127.0.0.1:4191", help="the admin server (default: 127.0.0.1:4191)"
    )
    running.add_argument(
        "--admin-token", metavar="FILE", help="its clients show the token in this file (Authorization: Bearer …)"
    )
    running.add_argument(
        "--admin-open",
        metavar="/PAGE[,/PAGE…]",
        help="pages of the admin server that everybody may see (default: /live,/ready); has to be given, or a token, "
        "where it listens anywhere but on loopback",
    )
    running.add_argument("--admin-shutdown", action="store_true", help="enable POST /shutdown of the admin server")
    running.add_argument(
        "--access-log",
        metavar="FORM",
        default="off",
        help="a line for each request: off (default), text, json, apache, linkerd-json, or a template such as "
        "'%%{client} %%{method} %%{path} %%{status}'",
    )
    running.add_argument(
        "--access-log-to",
        metavar="FILE",
        default="stdout",
        help="stdout (default), stderr or a file, which may be moved away at any time",
    )
    running.add_argument(
        "--log-level",
        metavar="LEVEL",
        default="info",
        help="trace, debug, info (default), warn, error or off; by logger: info,meshcore.layers.balance=debug",
    )
    running.add_argument(
        "--layer-accounting",
        metavar="on|off",
        default="on",
        help="count and time what each layer does, for /stack and metrics (default: on)",
    )
    running.add_argument("--log-format", metavar="FORM", default="text", help="text (default) or json, on stderr")


def run(arguments: argparse.Namespace) -> int:
    """Runs until a signal; the exit code."""
    from meshcore.config import proxy_config
    from meshcore.errors import ConfigError
    from meshcore.log_filter import LogFilter
    from meshcore_cli.logs import FORMATS, configure

    problems: list[str] = []
    try:
        LogFilter.parse(arguments.log_level)
    except ConfigError as error:
        problems += [f"--log-level: {problem}" for problem in error.problems]
    if arguments.log_format not in FORMATS:
        problems.append(f"--log-format: {arguments.log_format!r} is not one of {', '.join(FORMATS)}")
    try:
        config = proxy_config(
            arguments.listen,
            arguments.to,
            tls_cert=arguments.tls_cert,
            tls_key=arguments.tls_key,
            upstream_ca=arguments.upstream_ca,
            timeout=arguments.timeout,
            retries=arguments.retries,
            balance=arguments.balance,
            engine=arguments.engine,
            admin=arguments.admin,
            admin_token=arguments.admin_token,
            admin_open=arguments.admin_open,
            admin_shutdown=arguments.admin_shutdown,
            access_log=arguments.access_log,
            access_log_to=arguments.access_log_to,
            layer_accounting=arguments.layer_accounting,
            grace_period=arguments.grace_period,
            opaque_ports=arguments.opaque_ports,
        )
    except ConfigError as error:
        return fail("meshcore proxy", [*error.problems, *problems])
    if problems:
        return fail("meshcore proxy", problems)

    levels = configure(arguments.log_level, arguments.log_format)
    from meshcore.process import main
    from meshcore.proxy import AddressError

    try:
        return main(config, levels=levels)
    except AddressError as error:
        fail("meshcore proxy", error.problems)
        return PROBLEM
    except ConfigError as error:
        return fail("meshcore proxy", error.problems)
