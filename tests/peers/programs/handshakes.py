"""Shakes hands over and over with a client certificate, one small request for each; tells milliseconds, one a line.

    handshakes.py PORT CERT KEY ANCHORS NAME SECONDS

A line ``failed`` for each that came to nothing.
"""

from __future__ import annotations

import socket
import ssl
import sys
import time

REQUEST = b"GET / HTTP/1.1\r\nhost: server.test\r\nconnection: close\r\n\r\n"


def main(port: str, cert: str, key: str, anchors: str, name: str, seconds: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(anchors)
    context.load_cert_chain(cert, key)
    took = []
    end = time.perf_counter() + float(seconds)
    while (began := time.perf_counter()) < end:
        try:
            with (
                socket.create_connection(("127.0.0.1", int(port)), 10) as plain,
                context.wrap_socket(plain, server_hostname=name) as tls,
            ):
                # Else the request waits until the peer acknowledges the end of the handshake, 40 ms with some.
                tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                tls.sendall(REQUEST)
                answer = tls.recv(65_536)
        except OSError:
            answer = b""
        good = answer.startswith(b"HTTP/1.1 200")
        took.append(f"{(time.perf_counter() - began) * 1000:.3f}" if good else "failed")
    print("\n".join(took))


if __name__ == "__main__":
    main(*sys.argv[1:])
