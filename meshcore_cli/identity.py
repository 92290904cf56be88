"""``meshcore identity``: makes, issues and explains certificates."""

from __future__ import annotations

import contextlib
import datetime
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshcore_cli.parser import OK, PROBLEM, Parser, fail, nearest
from meshcore_cli.render import bold, print_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

DESCRIPTION = """\
Certificates of the mesh.

  meshcore identity dev-ca --out DIR                      a development CA: DIR/ca.crt and DIR/ca.key
  meshcore identity issue NAME --ca DIR --out DIR         NAME.crt and NAME.key for a DNS name or a spiffe:// URI
  meshcore identity show FILE…                            names, validity, issuer, whether this clock accepts it

Files that are there are never overwritten without --force.  Keys are readable by their owner only."""

ACTIONS = ("dev-ca", "issue", "show")


def add_arguments(parser: Parser) -> None:
    """The arguments of the command."""
    parser.intermixed = True
    parser.add_argument("action", choices=ACTIONS, metavar="dev-ca|issue|show", help="what to do")
    parser.add_argument("names", nargs="*", metavar="NAME|FILE", help="issue: one name; show: PEM files")
    parser.add_argument("--out", metavar="DIR", help="dev-ca, issue: the folder for the files, made if it is not there")
    parser.add_argument("--ca", metavar="DIR", help="issue: the folder of the authority (ca.crt and ca.key)")
    parser.add_argument("--days", type=float, metavar="N", help="issue: how long it is valid (1); dev-ca: 3650")
    parser.add_argument("--force", action="store_true", help="dev-ca, issue: overwrite files that are there")
    parser.add_argument(
        "-o", "--output", choices=["table", "json"], default="table", help="show: form of the output"
    )


def run(arguments: argparse.Namespace) -> int:
    """Does one of the three."""
    problems = _problems(arguments)
    if problems:
        return fail(f"meshcore identity {arguments.action}", problems)
    actions: dict[str, Callable[[argparse.Namespace], int]] = {"dev-ca": _dev_ca, "issue": _issue, "show": _show}
    return actions[arguments.action](arguments)


def _problems(arguments: argparse.Namespace) -> list[str]:
    """What is wrong with the words given, all of it."""
    action, names = arguments.action, arguments.names
    given = {"--out": arguments.out, "--ca": arguments.ca, "--days": arguments.days, "--force": arguments.force or None}
    takes = {"dev-ca": ["--out", "--days", "--force"], "issue": ["--out", "--ca", "--days", "--force"], "show": []}
    needs = {"dev-ca": ["--out"], "issue": ["--ca", "--out"], "show": []}
    problems = [
        f"{option} is not an option of {action}{nearest(option, takes[action])}"
        for option, value in given.items()
        if value is not None and option not in takes[action]
    ]
    problems += [f"{option} DIR is missing" for option in needs[action] if not given[option]]
    if action == "dev-ca" and names:
        problems.append(f"unexpected argument {names[0]}")
    if action == "issue" and len(names) != 1:
        problems.append(f"one NAME is wanted, {len(names)} were given")
    if action == "show" and not names:
        problems.append("no FILE is given")
    if arguments.days is not None and not 0 < arguments.days <= 36_500:
        problems.append(f"--days {arguments.days:g} is not between 0 and 36500")
    return problems


def _dev_ca(arguments: argparse.Namespace) -> int:
    from meshcore.identity.authority import Authority

    out = Path(arguments.out)
    days = 3650.0 if arguments.days is None else arguments.days
    authority = Authority.make("meshcore development CA", now=_now(), days=days)
    files = [(out / "ca.key", authority.key_pem(), 0o600), (out / "ca.crt", authority.cert_pem(), 0o644)]
    return _write("meshcore identity dev-ca", out, files, arguments.force)


def _issue(arguments: argparse.Namespace) -> int:
    from meshcore.identity.authority import Authority, check_workload_name

    command = "meshcore identity issue"
    name, ca, out = arguments.names[0], Path(arguments.ca), Path(arguments.out)
    problems = []
    try:
        check_workload_name(name)
    except ValueError as error:
        problems.append(str(error))
    pem = []
    for path in (ca / "ca.crt", ca / "ca.key"):
        try:
            pem.append(path.read_bytes())
        except OSError as error:
            problems.append(f"{path}: {(error.strerror or str(error)).lower()}")
    if problems:
        return fail(command, problems)
    try:
        authority = Authority.from_pem(*pem)
    except ValueError as error:
        return fail(command, [f"{ca / 'ca.crt'} and {ca / 'ca.key'}: {error}"])
    try:
        days = 1.0 if arguments.days is None else arguments.days
        cert, key = authority.issue(name, now=_now(), days=days)
    except ValueError as error:
        return fail(command, [f"{ca / 'ca.crt'}: {error}"])
    # A URI is known by its last part, or its trust domain where it has no path.
    stem = name.removesuffix("/").rpartition("/")[2] if "://" in name else name.lower().removesuffix(".")
    if out.resolve() == ca.resolve() and stem == "ca":
        return fail(command, [f"{name!r} would overwrite the authority's own files in {ca}"])
    chain = cert + authority.cert_pem()
    return _write(
        command, out, [(out / f"{stem}.key", key, 0o600), (out / f"{stem}.crt", chain, 0o644)], arguments.force
    )


def _write(command: str, out: Path, files: list[tuple[Path, bytes, int]], force: bool) -> int:
    from meshcore.identity.authority import write_file

    there = [] if force else [path for path, _, _ in files if path.is_symlink() or path.exists()]
    if there:
        print(
            *(f"{command}: {path} is there already; --force overwrites it" for path in there), sep="\n", file=sys.stderr
        )
        return PROBLEM
    written: list[Path] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, data, mode in files:
            write_file(path, data, mode=mode, replace=force)
            written.append(path)
    except OSError as error:
        if not force:
            # Half a pair is of no use, and would be in the way of the next try.
            for path in written:
                with contextlib.suppress(OSError):
                    path.unlink()
        name = error.filename2 or error.filename or out
        print(f"{command}: {name}: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        return PROBLEM
    for path, _, mode in files:
        print(f"{path} (mode {mode:04o})")
    return OK


def _show(arguments: argparse.Namespace) -> int:
    from meshcore.transport.pem import load_certificates

    code = OK
    values: list[dict[str, Any]] = []
    for name in arguments.names:
        try:
            certificates = load_certificates(Path(name).read_bytes())
        except (OSError, ValueError) as error:
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            print(f"meshcore identity show: {name}: {text[:1].lower()}{text[1:]}", file=sys.stderr)
            code = PROBLEM
            continue
        values += [_facts(name, index, each) for index, each in enumerate(certificates)]
    if any(not value["accepted"] for value in values):
        code = PROBLEM
    if arguments.output == "json":
        print_json(values)
    else:
        print("\n\n".join(map(_page, values)))
    return code


def _facts(file: str, index: int, certificate: Any) -> dict[str, Any]:
    from meshcore.errors import TlsError
    from meshcore.transport.names import identity_names, is_authority, subject_names

    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    now = datetime.datetime.now(datetime.UTC)
    authority = is_authority(certificate)
    problems = []
    names: list[str] = []
    identity = None
    try:
        found = subject_names(certificate)
        names = [*found.dns, *found.uris, *map(str, found.addresses)]
        identity = next(iter(identity_names(certificate)), None)
    except TlsError as error:
        problems.append(str(error))
    else:
        if not authority and identity is None:
            problems.append("it has no DNS name and no spiffe:// URI, so that nobody of the mesh can be known by it")
    if now > until:
        problems.append(f"expired {_span(now - until)} ago")
    elif now < since:
        problems.append(f"not valid yet: it begins in {_span(since - now)}; is this clock right?")
    return {
        "file": file,
        "position": index + 1,
        "kind": "authority" if authority else "leaf",
        "subject": certificate.subject.rfc4514_string(),
        "names": names,
        "identity": identity,
        "issuer": certificate.issuer.rfc4514_string(),
        "self_signed": certificate.issuer == certificate.subject,
        "not_before": f"{since:%Y-%m-%dT%H:%M:%SZ}",
        "not_after": f"{until:%Y-%m-%dT%H:%M:%SZ}",
        "now": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "accepted": not problems,
        "verdict": "; ".join(problems) if problems else f"valid for another {_span(until - now)}",
    }


def _page(value: dict[str, Any]) -> str:
    place = value["file"] + (f" (certificate {value['position']})" if value["position"] > 1 else "")
    issuer = "itself" if value["self_signed"] else value["issuer"]
    rows = [
        ("kind", value["kind"]),
        ("names", _shown(", ".join(value["names"])) or "none"),
        ("identity", _shown(value["identity"] or "none")),
        ("subject", _shown(value["subject"]) or "none"),
        ("issuer", _shown(issuer)),
        ("valid", f"{value['not_before']} to {value['not_after']}"),
        ("this clock", f"{value['now']}: {'accepted' if value['accepted'] else 'refused'}, {_shown(value['verdict'])}"),
    ]
    if value["kind"] == "authority":
        rows = [row for row in rows if row[0] != "identity"]
    return "\n".join([bold(place), *(f"  {title:<10}  {text}" for title, text in rows)])


def _shown(text: str) -> str:
    """Without what would speak to the terminal: a certificate may come from anybody."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _now() -> float:
    return datetime.datetime.now(datetime.UTC).timestamp()


def _span(span: datetime.timedelta) -> str:
    seconds = int(span.total_seconds())
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds} s"
