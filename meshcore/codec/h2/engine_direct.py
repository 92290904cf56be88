"""The direct engine: the codec's own HPACK, and nothing behind it.

The scanner has judged every frame before an engine sees it, so there is little left for one to do.  Compiled, doing
that little here costs a third of having a library in C do it, whose every field and frame has to become an object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshcore.codec.h2 import frames as f
from meshcore.codec.h2.hpack_decoder import HpackDecoder
from meshcore.codec.h2.hpack_encoder import HpackEncoder

if TYPE_CHECKING:
    from meshcore.codec.events import Field, Fields
    from meshcore.codec.h2.connection import Connection
    from meshcore.codec.limits import H2Limits

__all__ = ["DirectEngine"]

_unpack: Final = f.HEADER.unpack_from


class DirectEngine:
    """The encoder and the decoder of one connection; what it sends goes straight to the codec's output.

    The codec itself reads and writes header blocks and bodies (``Connection``, ``Bodies``), and numbers the streams:
    of ``Engine``'s methods only those are here that are called for what comes rarely.

    Attributes:
        decoder: of the peer's header blocks.
        encoder: of ours.
    """

    __slots__ = ("_codec", "_table", "decoder", "encoder", "headers_only", "wants_authority")

    def __init__(self, codec: Connection, server: bool, limits: H2Limits) -> None:
        self.wants_authority = False
        self.headers_only = True
        self._codec = codec
        self._table = limits.hpack_table
        self.decoder = HpackDecoder(codec.reader, 4 * limits.header_list_size)
        self.encoder = HpackEncoder()

    def feed(self, data: bytes | memoryview, /) -> None:
        """SETTINGS, or a header block that is decoded for the table's sake alone: one at a time."""
        data = bytes(data)
        kind = _unpack(data, 0)[0] & 0xFF
        if kind == f.HEADERS:
            self.decoder.decode(f.header_block(data, 0, len(data)))
        elif kind == f.SETTINGS:
            for key, value in f.SETTING.iter_unpack(data[9:]):
                if key == f.HEADER_TABLE_SIZE:
                    self.encoder.resize(value)
            self._codec.queue(f.SETTINGS_ACK)

    def take_refusals(self) -> bytes:
        return b""

    def take(self) -> bytes:
        return b""

    def acknowledge_settings(self) -> bytes:
        self.decoder.allow(self._table)
        return b""

    def send_headers(self, stream_id: int, fields: Fields, /, *, end_stream: bool) -> None:
        self._send(stream_id, fields, end_stream)

    def send_informational(self, stream_id: int, fields: Fields, /) -> None:
        self._send(stream_id, fields, False)

    def _send(self, stream_id: int, fields: list[Field], end_stream: bool) -> None:
        pseudo = [field for field in fields if field[0][:1] == b":"]
        regular = fields[len(pseudo) :]
        self.encoder.look(regular)
        self._codec.send_block(stream_id, self.encoder.block(pseudo, regular), end_stream)

    def end_stream(self, stream_id: int, /) -> None:
        self._codec.queue(f.frame(f.DATA, f.END_STREAM, stream_id))

    def reset(self, stream_id: int, code: int, /) -> None:
        self._codec.queue(f.reset_frame(stream_id, code))

    def remote_reset(self, stream_id: int, code: int, /) -> None:
        pass

    def widen(self, stream_id: int, amount: int, /) -> None:
        pass

    def remote_goaway(self, last_stream_id: int, /) -> None:
        pass

    def forget(self, stream_id: int, /) -> None:
        pass

    def repay(self, stream_id: int, amount: int, /) -> bytes:
        return b""

    def settle(self, debts: list[tuple[int, int]], /) -> bytes:
        return b""
