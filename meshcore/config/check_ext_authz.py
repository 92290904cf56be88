"""What only shows when the keys of an ``ext_authz`` are seen together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.config.report import right

if TYPE_CHECKING:
    from meshcore.config.ext_authz import ExtAuthzConfig
    from meshcore.config.mesh import MeshConfig
    from meshcore.config.report import Report
    from meshcore.config.toml_lines import KeyPath

__all__ = ["check_ext_authz"]


def check_ext_authz(here: KeyPath, asked: ExtAuthzConfig | None, config: MeshConfig, report: Report) -> None:
    """Reports what does not go together in one ``ext_authz``."""
    if asked is None or not right(asked):
        return
    if asked.grpc is None and asked.http is None:
        report.error((*here, "grpc"), 'has to be given, or http: where the service is, such as "http://10.0.0.9:9000"')
    elif asked.grpc is not None and asked.http is not None:
        report.error((*here, "http"), "grpc is given, too; one of the two has to go")
    elif asked.grpc is not None:
        if asked.copy_headers:
            report.error((*here, "copy_headers"), "is for http; over gRPC the answer itself says what is set")
        if asked.path_prefix is not None:
            report.error((*here, "path_prefix"), "is for http")
    elif asked.context:
        report.error((*here, "context"), "is for grpc")
    for name, endpoint in (("grpc", asked.grpc), ("http", asked.http)):
        if endpoint is None or not right(endpoint):
            continue
        spoken = endpoint.protocol
        if spoken == "tcp" or (name == "grpc" and spoken == "http1"):
            report.error((*here, name), f"{spoken} cannot be spoken to it; http:// or https:// is wanted")
        elif spoken is None or right(spoken):
            if spoken != "https" and asked.tls is not None:
                report.error((*here, "tls"), "would not be used: it is not https")
            if spoken == "https" and asked.identity is not None:
                report.error((*here, "identity"), 'mutual TLS of the mesh and "https" exclude each other')
    if asked.identity is not None and config.identity is None:
        report.error(
            (*here, "identity"), "cannot be asked for: this proxy has no [identity] of its own; add it, or leave it out"
        )
