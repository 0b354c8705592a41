"""A text inside a picture or a page, where those who read it find it, and the file as it is without.

PNG has it as the text ``History`` (PNG specification, 11.3.4.3), PDF as its keywords, in an update behind the document
(ISO 32000-1, 7.5.6), HTML as a comment in its second line. So all that is shown stays the same to the byte.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

#: A PNG begins with a signature of 8 bytes and its header, a chunk of 25.
PNG_HEAD = 33
PNG_NAME = b"History"
PDF_TRAILER = re.compile(
    rb"trailer\n<< /Size (?P<size>\d+) /Root (?P<root>\d+) 0 R /Info (?P<info>\d+) 0 R >>\nstartxref\n(?P<previous>\d+)\n"
)
PDF_END = b"%%EOF\n"
HTML_FIRST = b"<!doctype html>\n"
COMMENT = (b"<!-- history: ", b" -->\n")


class Split(NamedTuple):
    """A file as it is without the text in it, and the text: none where there is none."""

    content: bytes
    text: str | None


class Format(NamedTuple):
    """How one kind of file holds a text: ``embed(content, text)`` and ``split(data)``."""

    embed: Callable[[bytes, str], bytes]
    split: Callable[[bytes], Split]


def _embed_png(content: bytes, text: str) -> bytes:
    body = b"tEXt" + PNG_NAME + b"\0" + text.encode("ascii")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return content[:PNG_HEAD] + chunk + content[PNG_HEAD:]


def _split_png(data: bytes) -> Split:
    kind = data[PNG_HEAD + 4 : PNG_HEAD + 9 + len(PNG_NAME)]
    if kind != b"tEXt" + PNG_NAME + b"\0":
        return Split(data, None)
    (length,) = struct.unpack(">I", data[PNG_HEAD : PNG_HEAD + 4])
    end = PNG_HEAD + 8 + length
    if data[end : end + 4] != struct.pack(">I", zlib.crc32(data[PNG_HEAD + 4 : end])):
        raise ValueError("the checksum of its history is another")
    text = data[PNG_HEAD + 9 + len(PNG_NAME) : end]
    return Split(data[:PNG_HEAD] + data[end + 4 :], text.decode("ascii"))


def _embed_pdf(content: bytes, text: str) -> bytes:
    """A new version of the object that says who made the document, with keywords."""
    trailer = PDF_TRAILER.search(content, content.rindex(b"trailer"))
    entries = trailer and re.search(rb"\n%s 0 obj\n<<(.*?)>>\nendobj" % trailer["info"], content, re.S)
    if not trailer or not entries:
        raise ValueError("the PDF is not as Matplotlib writes one")
    size, root, info, previous = trailer.group("size", "root", "info", "previous")
    keywords = re.sub(rb"([\\()])", rb"\\\1", text.encode("ascii"))
    made_by = b"%s 0 obj\n<<%s /Keywords (%s) >>\nendobj\n" % (info, entries[1].rstrip(), keywords)
    place = len(content) + len(made_by)
    table = b"xref\n%s 1\n%010d 00000 n \n" % (info, len(content))
    end = b"trailer\n<< /Size %s /Root %s 0 R /Info %s 0 R /Prev %s >>\n" % (size, root, info, previous)
    return content + made_by + table + end + b"startxref\n%d\n" % place + PDF_END


def _split_pdf(data: bytes) -> Split:
    start = data.rfind(PDF_END, 0, -len(PDF_END)) + len(PDF_END)
    found = re.search(rb"/Keywords \((.*)\) >>\nendobj", data[start:], re.S)
    if start < len(PDF_END) or found is None:
        return Split(data, None)
    return Split(data[:start], re.sub(rb"\\([\\()])", rb"\1", found[1]).decode("ascii"))


def _embed_html(content: bytes, text: str) -> bytes:
    if ">" in text:
        raise ValueError("a text with > could end the comment")
    return content.replace(HTML_FIRST, HTML_FIRST + text.encode("ascii").join(COMMENT), 1)


def _split_html(data: bytes) -> Split:
    start, end = HTML_FIRST + COMMENT[0], data.find(COMMENT[1])
    if not data.startswith(start) or end < 0:
        return Split(data, None)
    return Split(HTML_FIRST + data[end + len(COMMENT[1]) :], data[len(start) : end].decode("ascii"))


#: By the suffix of the file.
FORMATS = {
    ".png": Format(_embed_png, _split_png),
    ".pdf": Format(_embed_pdf, _split_pdf),
    ".html": Format(_embed_html, _split_html),
}
