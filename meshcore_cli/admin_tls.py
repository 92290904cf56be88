"""TLS to an admin server: whom to trust, who asks, and whose certificate it has to be."""

from __future__ import annotations

import http.client
import ssl
from typing import TYPE_CHECKING, Any

from meshcore_cli.columns import clean

if TYPE_CHECKING:
    import argparse

__all__ = ["Secured", "WrongFile", "secured", "why"]


class WrongFile(Exception):
    """What an option names cannot be used; the text says which, and why."""


class _OfAnother(OSError):
    """The certificate is good, but somebody else's."""


class Secured(http.client.HTTPSConnection):
    """A connection to an admin server that has to show a certificate.

    Args:
        host: where it is.
        port: likewise.
        timeout: of connecting, in seconds.
        context: what is trusted and shown.
        name: whose certificate it has to be: a DNS name, an address, or a URI such as ``spiffe://…``.
    """

    def __init__(self, host: str, port: int, timeout: float, context: ssl.SSLContext, name: str) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self._trusted = context
        self._name = name

    def connect(self) -> None:
        """Connects, and looks at who is there.

        Raises:
            OSError: nobody is, or somebody else.
        """
        http.client.HTTPConnection.connect(self)
        uri = "://" in self._name
        secure = self._trusted.wrap_socket(self.sock, server_hostname=None if uri else self._name)
        self.sock = secure
        # OpenSSL compares host names and addresses alone.
        names: Any = (secure.getpeercert() or {}).get("subjectAltName", ())
        if uri and ("URI", self._name) not in names:
            raise _OfAnother


def secured(arguments: argparse.Namespace, host: str, port: int, timeout: float) -> Secured:
    """The connection that ``--cacert``, ``--cert``, ``--key`` and ``--server-name`` ask for; not connected yet.

    Raises:
        WrongFile: one of the files is none.
    """
    name = arguments.server_name or host
    try:
        context = ssl.create_default_context(cafile=arguments.cacert)
    except (OSError, ValueError) as error:
        raise WrongFile(f"--cacert: {arguments.cacert!r}: {_said(error, 'it holds no certificate')}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.check_hostname = "://" not in name
    if arguments.cert is not None:
        try:
            context.load_cert_chain(arguments.cert, arguments.key)
        except (OSError, ValueError) as error:
            files = " and ".join(repr(each) for each in (arguments.cert, arguments.key) if each)
            raise WrongFile(f"--cert: {files}: {_said(error, 'no certificate with its key')}") from None
    return Secured(host, port, timeout, context, name)


def why(error: Exception, arguments: argparse.Namespace) -> str:
    """What went wrong in TLS, in words; ``""``: it was something else."""
    if isinstance(error, _OfAnother):
        return f"its certificate is not that of {clean(arguments.server_name)}"
    if isinstance(error, ssl.SSLCertVerificationError):
        refused = error.verify_message.rstrip(".")
        is_of_another = "mismatch" in refused.lower()
        hint = "--server-name NAME says whose it is" if is_of_another else "--cacert FILE says who vouches for it"
        return f"its certificate is refused: {refused}; {hint}"
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "").lower().replace("_", " ")
        if reason == "wrong version number":
            return "it speaks no TLS"
        # That a certificate is wanted is an alert that not every OpenSSL has a name for.
        hint = "; --cert FILE and --key FILE say who asks" if arguments.cert is None else ""
        return f"TLS failed{reason and f': {reason}'}{hint}"
    return ""


def _said(error: OSError | ValueError, otherwise: str) -> str:
    """Of OpenSSL's own errors nobody learns what is wrong with a file."""
    if isinstance(error, ssl.SSLError) or not isinstance(error, OSError) or not error.strerror:
        return otherwise
    return error.strerror.lower()
