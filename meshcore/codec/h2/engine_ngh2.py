"""The fast engine: libnghttp2 through ``ngh2``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ngh2
from ngh2 import (
    Configuration,
    Connection,
    DataReceived,
    InformationalResponseReceived,
    RequestReceived,
    ResponseReceived,
    Role,
    StreamClosed,
    TrailersReceived,
)

from meshcore.codec.h2.engine import EngineFailure
from meshcore.codec.h2.frames import (
    INITIAL_WINDOW_SIZE,
    MAX_WINDOW,
    PREFACE,
    SETTINGS_ACK,
    reset_frame,
    settings_frame,
    window_update_frame,
    without_goaway,
)
from meshcore.errors import ENHANCE_YOUR_CALM, INTERNAL_ERROR, NO_ERROR

if TYPE_CHECKING:
    from meshcore.codec.h2.connection import Connection as Sink
    from meshcore.codec.limits import H2Limits

__all__ = ["Ngh2Engine"]

# Consumed bytes of the connection at which the engine says WINDOW_UPDATE by itself: half of its window.
_HALF = MAX_WINDOW // 2
_BOUNDLESS = (1 << 62, 1 << 62)
# What it believes that it may send: never the limit, which the codec keeps itself.
_WIDE = 1 << 30


class Ngh2Engine:
    """One ``ngh2.Connection`` whose limits, windows and settings lie above ours, so that it never speaks first."""

    __slots__ = (
        "_connection",
        "_repaid",
        "_sink",
        "_table",
        "end_stream",
        "headers_only",
        "reset",
        "send_data",
        "send_headers",
        "send_informational",
        "send_request",
        "send_trailers",
        "take",
        "wants_authority",
    )

    def __init__(self, sink: Sink, server: bool, limits: H2Limits) -> None:
        size = 4 * limits.header_list_size
        self._sink = sink
        self._repaid = 0
        self.wants_authority = server
        self.headers_only = True
        self._connection = connection = Connection(
            Role.SERVER if server else Role.CLIENT,
            Configuration(
                auto_window_update=False,
                peer_max_concurrent_streams=MAX_WINDOW,
                max_outbound_ack=1 << 30,
                max_settings=1 << 16,
                stream_reset_rate_limit=_BOUNDLESS,
                glitch_rate_limit=_BOUNDLESS,
                max_continuations=1 << 20,
                max_send_header_block_length=1 << 24,
                max_inbound_header_list_size=size,
                max_inbound_header_count=size // 32 + 1,
            ),
        )
        settings = {3: MAX_WINDOW, 4: MAX_WINDOW, 5: (1 << 24) - 1, 6: size}
        if server:
            settings[8] = 1
        else:
            settings[2] = 0
        connection.initiate_connection(settings)
        connection.set_local_window_size(MAX_WINDOW)
        # The peer sees the SETTINGS that the codec writes, and answers those; these are answered here.
        connection.data_to_send()
        connection.receive_data(
            (PREFACE if server else b"")
            + settings_frame([(INITIAL_WINDOW_SIZE, _WIDE)])
            + window_update_frame(0, _WIDE - 65_535)
            + SETTINGS_ACK
        )
        connection.data_to_send()
        connection.events()
        self._table = limits.hpack_table
        # These are the connection's own, without a frame in between.
        self.take = connection.data_to_send
        self.send_request = connection.send_request
        self.send_headers = connection.send_response
        self.send_informational = connection.send_informational_response
        self.send_trailers = connection.send_trailers
        self.send_data = connection.send_data
        self.end_stream = connection.end_stream
        self.reset = connection.reset_stream

    def feed(self, data: bytes | memoryview, /) -> None:
        connection = self._connection
        failure: ngh2.NGH2Error | None = None
        try:
            connection.receive_data(data)
        except ngh2.NGH2Error as error:
            failure = error
        sink = self._sink
        event: Any
        for event in connection.events():
            kind = type(event)
            if kind is RequestReceived or kind is ResponseReceived:
                sink.on_headers(event.stream_id, event.headers, event.end_stream)
            elif kind is DataReceived:
                sink.on_data(event.stream_id, event.data, event.end_stream)
            elif kind is TrailersReceived:
                sink.on_headers(event.stream_id, event.headers, True)
            elif kind is InformationalResponseReceived:
                sink.on_headers(event.stream_id, event.headers, False)
        if failure is not None:
            if isinstance(failure, ngh2.DenialOfServiceError):
                raise EngineFailure(ENHANCE_YOUR_CALM, str(failure), "header_list")
            raise EngineFailure(INTERNAL_ERROR, str(failure))

    def take_refusals(self) -> bytes:
        connection = self._connection
        data = connection.data_to_send()
        for event in connection.events():
            if type(event) is StreamClosed and event.error_code != NO_ERROR:
                self._sink.on_refused(event.stream_id, event.error_code)
            elif type(event) is ngh2.ConnectionClosed:
                raise EngineFailure(event.error_code, "header block not decodable", "", without_goaway(data))
        return data

    def acknowledge_settings(self) -> bytes:
        connection = self._connection
        queued = connection.data_to_send()
        if self._table != 4096:
            connection.update_settings({1: self._table})
            connection.data_to_send()
            connection.receive_data(SETTINGS_ACK)
        return queued

    def remote_reset(self, stream_id: int, code: int, /) -> None:
        self._connection.receive_data(reset_frame(stream_id, code))

    def widen(self, stream_id: int, amount: int, /) -> None:
        self._connection.receive_data(window_update_frame(stream_id, amount))

    def remote_goaway(self, last_stream_id: int, /) -> None:
        # It would end itself with its last stream, and speak; these streams may lie in it until the connection ends.
        pass

    def forget(self, stream_id: int, /) -> None:
        pass

    def repay(self, stream_id: int, amount: int, /) -> bytes:
        self._repaid += amount
        if self._repaid >= _HALF:
            return self.settle([(stream_id, amount)])
        self._connection.acknowledge_received_data(amount, stream_id)
        return b""

    def settle(self, debts: list[tuple[int, int]], /) -> bytes:
        connection = self._connection
        queued = connection.data_to_send()
        for stream_id, amount in debts:
            connection.acknowledge_received_data(amount, stream_id)
            self._repaid += amount
        if self._repaid >= _HALF:
            self._repaid = 0
        connection.data_to_send()  # Its WINDOW_UPDATEs are of windows that the peer never saw.
        return queued
