"""A reverse proxy on aiohttp and uvloop, written as one writes it: port, upstream port."""

from __future__ import annotations

import asyncio
import sys

import aiohttp
from aiohttp import web

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length"}


def main() -> None:
    try:
        import uvloop
    except ImportError:
        pass
    else:
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    port, upstream = int(sys.argv[1]), sys.argv[2]

    async def make() -> web.Application:
        connector = aiohttp.TCPConnector(limit=0)
        session = aiohttp.ClientSession(connector=connector, auto_decompress=False)

        async def forward(request: web.Request) -> web.StreamResponse:
            headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
            body = request.content if request.body_exists else None
            url = f"http://127.0.0.1:{upstream}{request.raw_path}"
            async with session.request(request.method, url, headers=headers, data=body, allow_redirects=False) as got:
                kept = {name: value for name, value in got.headers.items() if name.lower() not in HOP_BY_HOP}
                answer = web.StreamResponse(status=got.status, headers=kept)
                if got.content_length is not None:
                    answer.content_length = got.content_length
                await answer.prepare(request)
                async for chunk in got.content.iter_any():
                    await answer.write(chunk)
                await answer.write_eof()
                return answer

        application = web.Application(client_max_size=1 << 40)
        application.router.add_route("*", "/{path:.*}", forward)
        return application

    web.run_app(make(), host="127.0.0.1", port=port, access_log=None, print=None)


main()
