"""A DNS server on loopback, whose zone is a JSON file that is read for each question.

``{"web.test": {"A": ["127.0.0.1"], "SRV": [[0, 1, 8080, "a.web.test"]]}}``; the TTL is 1 s.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import trio

from meshcore.resolve.dns_message import SRV, A
from tests.resolve.dns_server import DnsServer


class FromFile(DnsServer):
    """Reads its records anew each time."""

    zone: Path

    def answer(self, query: bytes, *, stream: bool = False) -> bytes:
        self.records = {
            (name, {"A": A, "SRV": SRV}[kind]): (1, values)
            for name, kinds in json.loads(self.zone.read_text()).items()
            for kind, values in kinds.items()
        }
        return super().answer(query, stream=stream)


async def main(zone: str, port: int) -> None:
    server = FromFile()
    server.zone = Path(zone)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, port)
        print("ready", flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
