"""A grpcio server for tests: ``grpc_server.py PORT NAME [DELAY]``; messages are plain bytes.

The service ``test.Echo``: ``Unary`` (its name, or the message if it is not empty), ``Collect`` (the number of
messages), ``Repeat`` (the message as often as it says), ``Chat`` (each message back at once), ``Hang`` (until
cancelled), ``Cancelled`` (how many were), ``Fail`` (a status with a message and trailing metadata),
``Deadline`` (seconds that are left), ``Count`` (calls of Unary), ``Details`` (a status with details), ``Metadata``
(``x-`` metadata back, in the trailers), ``Zipped`` (the message, compressed if the client takes that), ``Early`` (an
answer before the last message), ``Forever`` (messages without an end).  And ``grpc.health.v1.Health``: the server and
``test.Echo`` are SERVING, ``test.Sick`` is not, and there is nobody else.
"""

from __future__ import annotations

import sys
import threading
import time
from concurrent import futures

import grpc

PORT, NAME = int(sys.argv[1]), sys.argv[2].encode()
DELAY = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
cancelled = threading.Semaphore(0)
counts = {"cancelled": 0, "unary": 0}
lock = threading.Lock()


def count(name: str) -> None:
    with lock:
        counts[name] += 1


def unary(message, context):
    count("unary")
    if DELAY:
        time.sleep(DELAY)
    context.send_initial_metadata((("x-served-by", NAME.decode()),))
    context.set_trailing_metadata((("x-trailer", "t"),))
    return message or NAME


def collect(messages, context):
    return b"%d" % sum(1 for _ in messages)


def repeat(message, context):
    for index in range(int(message)):
        yield b"%d" % index


def chat(messages, context):
    yield from messages


def hang(message, context):
    gone = threading.Event()

    def note():
        count("cancelled")
        gone.set()

    context.add_callback(note)
    gone.wait(30)
    return b""


def fail(message, context):
    context.set_trailing_metadata((("x-why", "because"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: ünïcode %")


def deadline(message, context):
    left = context.time_remaining()
    return b"none" if left is None else b"%.3f" % left


def details(message, context):
    context.set_trailing_metadata((("grpc-status-details-bin", message),))
    context.abort(grpc.StatusCode.NOT_FOUND, "with details")


def metadata(message, context):
    context.set_trailing_metadata(tuple(field for field in context.invocation_metadata() if field[0].startswith("x-")))
    return dict(context.invocation_metadata())["user-agent"].encode()


def zipped(message, context):
    context.set_compression(grpc.Compression.Gzip)
    return message


def early(messages, context):
    return next(messages)


def forever(message, context):
    context.add_callback(lambda: count("cancelled"))
    while context.is_active():
        yield message


METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Collect": grpc.stream_unary_rpc_method_handler(collect),
    "Repeat": grpc.unary_stream_rpc_method_handler(repeat),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
    "Hang": grpc.unary_unary_rpc_method_handler(hang),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Deadline": grpc.unary_unary_rpc_method_handler(deadline),
    "Details": grpc.unary_unary_rpc_method_handler(details),
    "Metadata": grpc.unary_unary_rpc_method_handler(metadata),
    "Zipped": grpc.unary_unary_rpc_method_handler(zipped),
    "Early": grpc.stream_unary_rpc_method_handler(early),
    "Forever": grpc.unary_stream_rpc_method_handler(forever),
    "Cancelled": grpc.unary_unary_rpc_method_handler(lambda m, c: b"%d" % counts["cancelled"]),
    "Count": grpc.unary_unary_rpc_method_handler(lambda m, c: b"%d" % counts["unary"]),
}

def health(message, context):
    states = {b"": b"\x08\x01", b"\x0a\x09test.Echo": b"\x08\x01", b"\x0a\x09test.Sick": b"\x08\x02"}
    if message not in states:
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return states[message]


server = grpc.server(
    futures.ThreadPoolExecutor(max_workers=64),
    options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)],
)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", METHODS),))
checks = {"Check": grpc.unary_unary_rpc_method_handler(health)}
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", checks),))
if server.add_insecure_port(f"127.0.0.1:{PORT}") == 0:
    sys.exit(f"cannot listen on {PORT}")
server.start()
server.wait_for_termination()
