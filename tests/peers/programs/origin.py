"""An HTTP/1.1 origin for tests on Trio and h11: ``origin.py PORT NAME [DELAY]``.

``/`` its name; ``/echo`` the body back, as it comes; ``/info`` the request as JSON; ``/trailers`` a chunked answer
with a trailer; ``/hints`` a 103 first; ``/count`` requests so far; ``/cut`` half a body; ``/sink`` the
body's length; ``/big?N`` N bytes; ``/slow?SECONDS``.
"""

from __future__ import annotations

import json
import sys

import h11
import trio

PORT, NAME = int(sys.argv[1]), sys.argv[2].encode()
DELAY = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
served = 0
block = b"x" * 65_536


class Exchange:
    def __init__(self, stream: trio.abc.Stream, connection: h11.Connection) -> None:
        self.stream = stream
        self.connection = connection

    async def send(self, *events: h11.Event) -> None:
        data = b"".join(self.connection.send(event) or b"" for event in events)
        await self.stream.send_all(data)

    async def event(self) -> h11.Event:
        while True:
            event = self.connection.next_event()
            if event is h11.NEED_DATA:
                if self.connection.they_are_waiting_for_100_continue:
                    await self.send(h11.InformationalResponse(status_code=100, headers=[]))
                try:
                    self.connection.receive_data(await self.stream.receive_some(65_536))
                except trio.BrokenResourceError:
                    return h11.ConnectionClosed()
                continue
            return event  # type: ignore[return-value]

    async def body(self) -> bytes:
        parts = []
        while isinstance(event := await self.event(), h11.Data):
            parts.append(bytes(event.data))
        return b"".join(parts)

    async def answer(self, body: bytes, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        head = [(b"content-length", b"%d" % len(body)), (b"x-served-by", NAME), *headers]
        await self.send(h11.Response(status_code=status, headers=head), h11.Data(data=body), h11.EndOfMessage())


async def respond(exchange: Exchange, request: h11.Request) -> bool:
    """Whether the connection may go on."""
    global served
    served += 1
    path, _, query = bytes(request.target).partition(b"?")
    if path == b"/echo":
        await exchange.send(h11.Response(status_code=200, headers=[(b"transfer-encoding", b"chunked")]))
        while isinstance(event := await exchange.event(), h11.Data):
            await exchange.send(h11.Data(data=bytes(event.data)))
        trailers = list(event.headers) if isinstance(event, h11.EndOfMessage) else []
        await exchange.send(h11.EndOfMessage(headers=trailers))
        return True
    if path == b"/sink":
        total = 0
        while isinstance(event := await exchange.event(), h11.Data):
            total += len(event.data)
        await exchange.answer(b"%d" % total)
        return True
    body = await exchange.body()
    if DELAY:
        await trio.sleep(DELAY)
    if path == b"/info":
        facts = {
            "method": request.method.decode(),
            "target": request.target.decode(),
            "version": request.http_version.decode(),
            "headers": [[name.decode(), value.decode("latin-1")] for name, value in request.headers],
            "body": len(body),
            "name": NAME.decode(),
        }
        await exchange.answer(json.dumps(facts).encode())
    elif path == b"/trailers":
        await exchange.send(
            h11.Response(status_code=200, headers=[(b"transfer-encoding", b"chunked"), (b"trailer", b"x-sum")]),
            h11.Data(data=b"hello"),
            h11.EndOfMessage(headers=[(b"x-sum", b"42")]),
        )
    elif path == b"/hints":
        await exchange.send(h11.InformationalResponse(status_code=103, headers=[(b"link", b"</a.css>; rel=preload")]))
        await exchange.answer(b"hinted")
    elif path == b"/count":
        await exchange.answer(b"%d" % served)
    elif path == b"/big":
        left = int(query)
        await exchange.send(h11.Response(status_code=200, headers=[(b"content-length", b"%d" % left)]))
        while left:
            size = min(left, len(block))
            await exchange.send(h11.Data(data=block[:size]))
            left -= size
        await exchange.send(h11.EndOfMessage())
    elif path == b"/slow":
        await trio.sleep(float(query))
        await exchange.answer(b"slow")
    elif path == b"/cut":
        await exchange.send(h11.Response(status_code=200, headers=[(b"content-length", b"20")]), h11.Data(data=b"half"))
        return False
    else:
        await exchange.answer(NAME)
    return True


async def serve(stream: trio.SocketStream) -> None:
    exchange = Exchange(stream, h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20))
    async with stream:
        try:
            while isinstance(event := await exchange.event(), h11.Request):
                if not await respond(exchange, event) or exchange.connection.our_state is not h11.DONE:
                    return
                exchange.connection.start_next_cycle()
        except (h11.ProtocolError, trio.BrokenResourceError):
            return


async def main() -> None:
    listeners = await trio.open_tcp_listeners(PORT, host="127.0.0.1", backlog=4096)
    await trio.serve_listeners(serve, listeners)


trio.run(main)
