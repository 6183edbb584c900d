"""Multipart bodies (RFC 2046 §5.1.1) as they come: one part in memory at a time, all bounded."""

from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Final

_LARGEST_HEADER: Final = 8 * 1024
_LONGEST_PADDING: Final = 128  # bytes between a boundary and the end of its line
_BOUNDARY_LENGTH: Final = 70


class Malformed(ValueError):
    """The body is no multipart body."""


class TooLarge(ValueError):
    """A part is larger than any may be."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part."""

    content_type: str
    """Media type in lower case, without parameters."""
    body: bytes


def boundary(content_type: str) -> str:
    """Return the boundary that a header `Content-Type: multipart/related` states.

    Raises
    ------
    Malformed
        If it states none.
    """
    stated = str(_header(content_type).get_param("boundary", ""))
    if not 0 < len(stated) <= _BOUNDARY_LENGTH or not stated.isascii():
        raise Malformed("the Content-Type states no boundary")
    return stated


def media_types(content_type: str) -> tuple[str, str]:
    """Return the media type of a header, and that of the root part (RFC 2387 §3.1)."""
    header = _header(content_type)
    return header.get_content_type(), str(header.get_param("type", "")).lower()


def _header(content_type: str) -> Message:
    made = Message()
    made["Content-Type"] = content_type.replace("\r", " ").replace("\n", " ")
    return made


class Splitter:
    """Splits a body, fed in chunks of any size.

    Parameters
    ----------
    mark
        The boundary.
    largest
        Bytes of one part's body.
    """

    def __init__(self, mark: str, largest: int) -> None:
        self.ended = False
        """Whether the closing boundary was there: the body is whole."""
        self._delimiter = b"\r\n--" + mark.encode("ascii")
        self._largest = largest
        self._data = bytearray(b"\r\n")  # the first boundary looks like every other
        self._searched = 0
        self._inside = False

    def feed(self, chunk: bytes) -> Iterator[Part]:
        """Yield the parts that this chunk completes.

        Raises
        ------
        Malformed
            If a part has no header that can be read.
        TooLarge
            If a part, whole or not, is larger than any may be.
        """
        self._data += chunk
        while not self.ended:
            before = self._next()
            if before is None:
                self._bound()
                return
            if self._inside:
                yield _part(before, self._largest)
            self._inside = True

    def _next(self) -> bytes | None:
        """Return what stands before the next boundary, and drop both; None = not there yet."""
        while (found := self._data.find(self._delimiter, self._searched)) >= 0:
            line = bytes(self._data[found + len(self._delimiter) :][: _LONGEST_PADDING + 2])
            end = line.find(b"\r\n")
            self.ended = line.startswith(b"--")
            if self.ended or (end >= 0 and not line[:end].strip(b" \t")):
                before = bytes(self._data[:found])
                del self._data[: found + len(self._delimiter) + max(end, 0)]
                self._searched = 0
                return before
            if end < 0 and len(line) < _LONGEST_PADDING + 2:
                self._searched = found
                return None
            self._searched = found + 1
        self._searched = max(0, len(self._data) - len(self._delimiter) + 1)
        return None

    def _bound(self) -> None:
        if self._inside and len(self._data) > self._largest + _LARGEST_HEADER + len(
            self._delimiter
        ):
            raise TooLarge("a part is larger than any may be")
        if not self._inside:  # the preamble is nobody's
            del self._data[: self._searched]
            self._searched = 0


def _part(data: bytes, largest: int) -> Part:
    """Return the part that stands between two boundaries, the line end of the first included."""
    head, blank, body = data.partition(b"\r\n\r\n")
    if not blank or len(head) > _LARGEST_HEADER:
        raise Malformed("a part has no header")
    if len(body) > largest:
        raise TooLarge("a part is larger than any may be")
    header = BytesHeaderParser().parsebytes(head.removeprefix(b"\r\n") + b"\r\n\r\n")
    return Part(header.get_content_type() if "Content-Type" in header else "", body)


def joined(mark: str, content_type: str, body: bytes) -> bytes:
    """Return a body of one part."""
    head = f"--{mark}\r\nContent-Type: {content_type}\r\n\r\n".encode("ascii")
    return head + body + f"\r\n--{mark}--\r\n".encode("ascii")
