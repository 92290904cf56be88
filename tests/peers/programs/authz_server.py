"""An authorization service on grpcio: ``authz_server.py PORT ANSWERS RECORD``.

ANSWERS is a JSON file of ``CheckResponse`` messages in hex by the word after ``case=`` in a question; without one it
answers UNAVAILABLE.  Each question is written to RECORD, in hex, one a line.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc

PORT, ANSWERS, RECORD = int(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()), Path(sys.argv[3])
CASE = re.compile(rb"case=(\w+)")
lock = threading.Lock()


def check(message, context):
    with lock, RECORD.open("a") as file:
        file.write(message.hex() + "\n")
    found = CASE.search(message)
    answer = ANSWERS.get(found[1].decode()) if found else None
    if answer is None:
        context.abort(grpc.StatusCode.UNAVAILABLE, "no such case")
    return bytes.fromhex(answer)


server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=[("grpc.so_reuseport", 0)])
methods = {"Check": grpc.unary_unary_rpc_method_handler(check)}
server.add_generic_rpc_handlers(
    (grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", methods),)
)
if server.add_insecure_port(f"127.0.0.1:{PORT}") == 0:
    sys.exit(f"cannot listen on {PORT}")
server.start()
server.wait_for_termination()
