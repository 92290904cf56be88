"""A Prometheus that scrapes once a second, and what it has recorded."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.peers.process import Running, free_port, running, scratch
from tests.peers.servers import program

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["prometheus", "query", "targets"]


@contextmanager
def prometheus(jobs: Mapping[str, int], rules: str = "", *files: Path) -> Iterator[Running]:
    """A Prometheus of its own.

    Args:
        jobs: the port of each job's one target.
        rules: recording rules, as a file of them has them.
        files: more files of rules.
    """
    port = free_port()
    with scratch("prometheus") as directory:
        own = directory / "own.rules.yml"
        own.write_text(rules or "groups: []\n")
        scrapes = [
            {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{at}"]}]} for name, at in jobs.items()
        ]
        (directory / "prometheus.yml").write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
                    "rule_files": [str(own), *map(str, files)],
                    "scrape_configs": scrapes,
                }
            )
        )
        command = [
            program("prometheus"),
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]

        def ready(made: Running) -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=1) as answer:
                    return int(answer.status) == 200
            except OSError:
                return False

        with running("prometheus", command, ready=ready, port=port) as made:
            yield made


def _get(server: Running, path: str, **parameters: str) -> Any:
    url = f"http://{server.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        told = json.load(answer)
    assert told["status"] == "success", told
    return told["data"]


def query(server: Running, expression: str, at: float | None = None) -> dict[str, float]:
    """What an expression has as its value, by job; at a time since the epoch, or now."""
    more = {} if at is None else {"time": f"{at:.3f}"}
    result = _get(server, "query", query=expression, **more)["result"]
    return {each["metric"].get("job", ""): float(each["value"][1]) for each in result}


def targets(server: Running) -> dict[str, dict[str, Any]]:
    """Each target by its job, with its health and the last error."""
    return {each["labels"]["job"]: each for each in _get(server, "targets")["activeTargets"]}
