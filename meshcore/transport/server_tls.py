"""ServerTls: what an accepting side shows its clients, and what it asks of them; its files are watched."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs
import trio
from OpenSSL import SSL, crypto

from meshcore.errors import ConfigError
from meshcore.transport.contexts import VERSIONS, choose_alpn, new_context, present, trust, trust_store
from meshcore.transport.handshake import Verification, refusal, verify
from meshcore.transport.names import subject_names
from meshcore.transport.pem import load_certificates, load_pair
from meshcore.transport.watch import stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

__all__ = ["ClientCertificates", "ServerTls", "WatchedServerTls", "server_context"]

log = logging.getLogger(__name__)

ClientCertificates: TypeAlias = Literal["off", "optional", "required"]

_ASKED: dict[str, int] = {
    "off": SSL.VERIFY_NONE,
    "optional": SSL.VERIFY_PEER,
    "required": SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
}


def _pairs(value: Sequence[tuple[str | Path, str | Path]]) -> tuple[tuple[Path, Path], ...]:
    return tuple((Path(cert), Path(key)) for cert, key in value)


@attrs.frozen
class ServerTls:
    """How accepted connections are secured.

    Attributes:
        cert: PEM file of the default certificate: the leaf, then its chain.
        key: PEM file: its private key, not encrypted.
        alpn: protocols accepted, the preferred first; a client that offers none of them is refused (RFC 7301).
        min_version: ``"1.2"`` or ``"1.3"``.
        certificates: further files ``(cert, key)``.  A client that asks for a name (SNI) is shown the first
            certificate that has it, exactly before by wildcard; else the default, which is the first of all.
        client_certificates: ``"off"``; ``"optional"``: asked for, and refused if it cannot be verified;
            ``"required"``: refused without one, too.
        trust_anchors: PEM file of the authorities that vouch for clients.
    """

    cert: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    key: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    alpn: tuple[str, ...] = ("h2", "http/1.1")
    min_version: str = attrs.field(default="1.2", validator=attrs.validators.in_(sorted(VERSIONS)))
    certificates: tuple[tuple[Path, Path], ...] = attrs.field(default=(), converter=_pairs, kw_only=True)
    client_certificates: ClientCertificates = attrs.field(
        default="off", validator=attrs.validators.in_(sorted(_ASKED)), kw_only=True
    )
    trust_anchors: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path), kw_only=True)

    @property
    def pairs(self) -> tuple[tuple[Path, Path], ...]:
        """Every certificate with its key, the default first."""
        if self.cert is None or self.key is None:
            return self.certificates
        return ((self.cert, self.key), *self.certificates)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file."""
        anchors = () if self.trust_anchors is None else (self.trust_anchors,)
        return (*(path for pair in self.pairs for path in pair), *anchors)

    def context(self) -> SSL.Context:
        """Reads the files.

        Raises:
            ConfigError: with every problem: a file cannot be read, is not what it should be, or two do not belong
                together; clients' certificates are wanted and nobody is trusted.
        """
        return _load(self)[0]


def _load(tls: ServerTls) -> tuple[SSL.Context, list[x509.Certificate]]:
    """The settings, and the leaves that they show."""
    problems: list[str] = []
    made: list[tuple[x509.Certificate, SSL.Context]] = []
    anchors: tuple[x509.Certificate, ...] = ()
    if (tls.cert is None) != (tls.key is None):
        problems.append("a certificate and its key go together: only one of them is given")
    elif not tls.pairs:
        problems.append("no certificate is given")
    if tls.client_certificates != "off":
        if tls.trust_anchors is None:
            problems.append(f"client certificates are {tls.client_certificates}, and no trust anchors are given")
        else:
            try:
                anchors = load_certificates(_read(tls.trust_anchors, "trust anchors"))
            except ConfigError as error:
                problems += error.problems
            except ValueError as error:
                problems.append(f"trust anchors {tls.trust_anchors}: {error}")
    for cert, key in tls.pairs:
        try:
            pem = _read(cert, "certificate"), _read(key, "key")
            context = server_context(*pem, alpn=tls.alpn, min_version=tls.min_version)
            made.append((load_certificates(pem[0])[0], context))
            if tls.client_certificates != "off":
                # In each of them: taking another certificate for a name must not take another trust.
                trust(context, anchors)
                context.set_verify(_ASKED[tls.client_certificates], verify)
                for anchor in anchors:
                    context.add_client_ca(anchor)
        except ConfigError as error:
            problems += error.problems
        except ValueError as error:
            problems.append(f"{cert} and {key}: {error}")
    if problems:
        raise ConfigError(problems)
    if len(made) > 1:
        made[0][1].set_tlsext_servername_callback(_Selection(made))
    return made[0][1], [leaf for leaf, _ in made]


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError([f"{what} {path}: {(error.strerror or str(error)).lower()}"]) from error


class _Selection:
    """SNI's callback: which certificate a client is shown."""

    def __init__(self, made: list[tuple[x509.Certificate, SSL.Context]]) -> None:
        self._exact: dict[str, SSL.Context] = {}
        self._wild: dict[str, SSL.Context] = {}
        # functools.wraps looks for it.
        self.__name__ = "choose_certificate"
        for leaf, context in made:
            for name in map(str.lower, _dns(leaf)):
                if name.startswith("*."):
                    self._wild.setdefault(name[1:], context)
                else:
                    self._exact.setdefault(name.removesuffix("."), context)

    def __call__(self, ssl: SSL.Connection) -> None:
        found = ssl.get_app_data()
        try:
            name = (ssl.get_servername() or b"").decode("ascii", "replace").lower().removesuffix(".")
            behind = name[name.find(".") :] if "." in name else ""
            context = self._exact.get(name) or self._wild.get(behind)
            if context is not None:
                ssl.set_context(context)
        except Exception as error:
            # The default must not be shown instead: whoever looks after the handshake refuses it.
            if not isinstance(found, Verification):
                raise
            found.refusal = f"could not be shown a certificate: {error!r}"
            found.reason = "certificate"


def _dns(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        return subject_names(leaf).dns
    except Exception:
        # Nobody would accept it for any name: it can only be the default.
        return ()


def server_context(
    cert: bytes, key: bytes, *, alpn: Sequence[str] = ("h2", "http/1.1"), min_version: str = "1.2"
) -> SSL.Context:
    """OpenSSL's settings of an accepting side.

    Args:
        cert: PEM of the leaf and its chain.
        key: PEM of the private key.
        alpn: see :class:`ServerTls`; so is *min_version*.

    Raises:
        ValueError: they are not usable; the text never has the key.
    """
    chain, private = load_pair(cert, key)
    context = new_context(SSL.TLS_SERVER_METHOD, min_version)
    present(context, chain, private)
    preferred = [name.encode("ascii") for name in alpn]
    if preferred:
        context.set_alpn_select_callback(lambda _, offered: choose_alpn(preferred, offered))
    return context


class WatchedServerTls:
    """The settings as the files are now.  Nothing runs in the background: whoever is about to shake hands asks, and
    the files are looked at no more than once in *interval* seconds.

    Raises:
        ConfigError: the files cannot be used to begin with; see :meth:`ServerTls.context`.
    """

    __slots__ = ("_context", "_looked", "_settings", "_stamp", "interval")

    def __init__(self, settings: ServerTls, interval: float = 1.0) -> None:
        self.interval = interval
        self._settings = settings
        self._stamp = stamp(settings.files)
        self._looked = float("-inf")
        self._context = settings.context()

    def context(self) -> SSL.Context:
        """For the next handshake.  Files that were changed and cannot be used, or not now, are warned of once, and
        the old settings stay."""
        now = trio.current_time()
        if now - self._looked >= self.interval:
            self._looked = now
            found = stamp(self._settings.files)
            if found != self._stamp:
                self._stamp = found
                self._renew()
        return self._context

    def _renew(self) -> None:
        try:
            context, leaves = _load(self._settings)
            for leaf in leaves:
                _judge(leaf)
        except (ConfigError, ValueError) as error:
            log.warning("certificate refused: %s; the old one stays", "; ".join(str(error).splitlines()))
            return
        self._context = context
        log.info("certificate renewed: %s", ", ".join(str(cert) for cert, _ in self._settings.pairs))


def _judge(leaf: x509.Certificate) -> None:
    """Raises ValueError for a certificate that is not valid now, by OpenSSL's clock, the one that judges handshakes."""
    try:
        crypto.X509StoreContext(trust_store([leaf]), crypto.X509.from_cryptography(leaf)).verify_certificate()
    except crypto.X509StoreContextError as error:
        number, depth, _ = error.errors
        if number in (9, 10):
            raise ValueError(refusal(leaf, number, depth)) from error
