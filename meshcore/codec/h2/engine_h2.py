"""The reference engine: the ``h2`` library, pure Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, H2Connection
from h2.exceptions import ProtocolError
from h2.frame_buffer import FrameBuffer
from h2.stream import H2Stream, StreamInputs
from hpack.exceptions import HPACKError, OversizedHeaderListError

from meshcore.codec.h2.engine import EngineFailure, Sink
from meshcore.codec.h2.frames import MAX_WINDOW, reset_frame
from meshcore.errors import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, INTERNAL_ERROR, PROTOCOL_ERROR

if TYPE_CHECKING:
    from h2.connection import AllowedStreamIDs
    from h2.events import Event
    from hyperframe.frame import DataFrame, Frame, HeadersFrame

    from meshcore.codec.events import Fields
    from meshcore.codec.limits import H2Limits

__all__ = ["H2Engine"]


class _Connection(H2Connection):
    """An ``H2Connection`` that leaves verdicts, limits, windows and content-lengths to the codec."""

    MAX_CLOSED_STREAMS = 1

    def __init__(self, sink: Sink, server: bool, limits: H2Limits) -> None:
        super().__init__(
            H2Configuration(
                client_side=not server,
                header_encoding=None,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.sink = sink
        self.server = server
        self.incoming_buffer = FrameBuffer(server=False)
        self.max_inbound_frame_size = 1 << 24
        self.decoder.max_header_list_size = 4 * limits.header_list_size
        self.refused: list[int] = []

    def _begin_new_stream(self, stream_id: int, allowed_ids: AllowedStreamIDs) -> H2Stream:
        stream = H2Stream(
            stream_id,
            config=self.config,
            inbound_window_size=MAX_WINDOW,
            outbound_window_size=self.remote_settings.initial_window_size,
        )
        stream.max_outbound_frame_size = self.max_outbound_frame_size
        self.streams[stream_id] = stream
        if self.server:
            self.highest_inbound_stream_id = stream_id
        else:
            self.highest_outbound_stream_id = stream_id
        return stream

    @property
    def open_outbound_streams(self) -> int:
        return 0

    def _receive_headers_frame(self, frame: HeadersFrame) -> tuple[list[Frame], list[Event]]:
        try:
            fields: Any = self.decoder.decode(frame.data, raw=True)
        except OversizedHeaderListError as error:
            raise EngineFailure(ENHANCE_YOUR_CALM, str(error), "header_list") from error
        except (HPACKError, IndexError, TypeError, UnicodeDecodeError) as error:
            raise EngineFailure(COMPRESSION_ERROR, "header block not decodable") from error
        stream_id = frame.stream_id
        stream = self.streams.get(stream_id)
        if stream is None:
            if not self.server or stream_id <= self.highest_inbound_stream_id:
                return [], []
            self.state_machine.process_input(ConnectionInputs.RECV_HEADERS)
            stream = self._get_or_create_stream(stream_id, 1)  # type: ignore[arg-type]
        end_stream = "END_STREAM" in frame.flags
        machine = stream.state_machine
        try:
            if not self.server and fields and fields[0][0] == b":status" and fields[0][1][:1] == b"1":
                machine.process_input(StreamInputs.RECV_INFORMATIONAL_HEADERS)
            else:
                machine.process_input(StreamInputs.RECV_HEADERS)
            if end_stream:
                machine.process_input(StreamInputs.RECV_END_STREAM)
        except ProtocolError:
            self.refused.append(stream_id)
        else:
            self.sink.on_headers(stream_id, tuple(fields), end_stream)
        return [], []

    def _receive_data_frame(self, frame: DataFrame) -> tuple[list[Frame], list[Event]]:
        stream = self.streams.get(frame.stream_id)
        if stream is not None:
            end_stream = "END_STREAM" in frame.flags
            machine = stream.state_machine
            try:
                machine.process_input(StreamInputs.RECV_DATA)
                if end_stream:
                    machine.process_input(StreamInputs.RECV_END_STREAM)
            except ProtocolError:
                self.refused.append(frame.stream_id)
            else:
                self.sink.on_data(frame.stream_id, bytes(frame.data), end_stream)
        return [], []


class H2Engine:
    """One ``H2Connection``, fed frame by frame so that an error keeps what came before it."""

    __slots__ = ("_connection", "_sink", "_table", "headers_only", "wants_authority")

    def __init__(self, sink: Sink, server: bool, limits: H2Limits) -> None:
        self.wants_authority = False
        self.headers_only = False
        self._sink = sink
        self._table = limits.hpack_table
        self._connection = _Connection(sink, server, limits)

    def feed(self, data: bytes | memoryview, /) -> None:
        connection = self._connection
        buffer = connection.incoming_buffer
        buffer.add_data(bytes(data))
        buffer.max_frame_size = 1 << 24
        try:
            for frame in buffer:
                connection._receive_frame(frame)
        except ProtocolError as error:
            raise EngineFailure(INTERNAL_ERROR, str(error)) from error

    def take_refusals(self) -> bytes:
        connection = self._connection
        refused = connection.refused
        connection.refused = []
        for stream_id in refused:
            self.reset(stream_id, PROTOCOL_ERROR)
        data = connection.data_to_send()
        for stream_id in refused:
            self._sink.on_refused(stream_id, PROTOCOL_ERROR)
        return data

    def take(self) -> bytes:
        return self._connection.data_to_send()

    def acknowledge_settings(self) -> bytes:
        if self._table != 4096:
            self._connection.decoder.max_allowed_table_size = self._table
        return b""

    def send_request(self, fields: Fields, /, *, end_stream: bool) -> int:
        connection = self._connection
        stream_id = connection.get_next_available_stream_id()
        connection.send_headers(stream_id, fields, end_stream=end_stream)
        return stream_id

    def send_headers(self, stream_id: int, fields: Fields, /, *, end_stream: bool) -> None:
        self._connection.send_headers(stream_id, fields, end_stream=end_stream)

    def send_informational(self, stream_id: int, fields: Fields, /) -> None:
        self._connection.send_headers(stream_id, fields)

    def send_data(self, stream_id: int, data: bytes, /, *, end_stream: bool) -> None:
        connection = self._connection
        size = connection.max_outbound_frame_size
        while len(data) > size:
            connection.send_data(stream_id, data[:size])
            data = data[size:]
        connection.send_data(stream_id, data, end_stream=end_stream)

    def end_stream(self, stream_id: int, /) -> None:
        self._connection.end_stream(stream_id)

    def send_trailers(self, stream_id: int, fields: Fields, /) -> None:
        self._connection.send_headers(stream_id, fields, end_stream=True)

    def reset(self, stream_id: int, code: int, /) -> None:
        self._connection.streams.pop(stream_id, None)
        self._connection._data_to_send += reset_frame(stream_id, code)

    def remote_reset(self, stream_id: int, code: int, /) -> None:
        self._connection.streams.pop(stream_id, None)

    def widen(self, stream_id: int, amount: int, /) -> None:
        pass

    def remote_goaway(self, last_stream_id: int, /) -> None:
        streams = self._connection.streams
        for stream_id in [key for key in streams if key > last_stream_id]:
            del streams[stream_id]

    def forget(self, stream_id: int, /) -> None:
        self._connection.streams.pop(stream_id, None)

    def repay(self, stream_id: int, amount: int, /) -> bytes:
        return b""

    def settle(self, debts: list[tuple[int, int]], /) -> bytes:
        return b""
