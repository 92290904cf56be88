"""Twisted's own reverse proxy: port, upstream port."""

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.web import proxy, server

port, upstream = int(sys.argv[1]), int(sys.argv[2])
site = server.Site(proxy.ReverseProxyResource("127.0.0.1", upstream, b""))
reactor.listenTCP(port, site, interface="127.0.0.1")
reactor.run()
