"""An upstream for framing tests: ``recorder.py PORT FILE``; appends every byte it gets, as hex, a line a read.

It answers each request head that it sees with an empty 200, reading bodies only as far as a naive server
would: by content-length or chunks.  What it takes for a request is written as ``REQUEST method target``.
"""

from __future__ import annotations

import sys

import h11
import trio

PORT, FILE = int(sys.argv[1]), sys.argv[2]
log = open(FILE, "a", buffering=1)  # noqa: SIM115
number = 0


async def serve(stream: trio.SocketStream) -> None:
    global number
    number += 1
    me = number
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    async with stream:
        while True:
            try:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    if connection.they_are_waiting_for_100_continue:
                        await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                    data = await stream.receive_some(65_536)
                    log.write(f"{me} BYTES {data.hex()}\n")
                    connection.receive_data(data)
                elif isinstance(event, h11.Request):
                    log.write(f"{me} REQUEST {event.method.decode()} {event.target.decode('latin-1')}\n")
                elif isinstance(event, h11.EndOfMessage):
                    connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-recorder: 1\r\n\r\nok")
                    connection.send(h11.EndOfMessage())
                    if connection.our_state is not h11.DONE:
                        return
                    connection.start_next_cycle()
                elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                    return
            except h11.LocalProtocolError:
                # CONNECT: this server opens no tunnel.
                await stream.send_all(b"HTTP/1.1 405 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                return
            except h11.RemoteProtocolError as error:
                # A body that was broken off is safe: it cannot be taken for a whole one.
                if "peer closed connection" in str(error):
                    return
                log.write(f"{me} AMBIGUOUS {error}\n")
                return
            except trio.BrokenResourceError:
                return


async def main() -> None:
    listeners = await trio.open_tcp_listeners(PORT, host="127.0.0.1")
    await trio.serve_listeners(serve, listeners)


trio.run(main)
