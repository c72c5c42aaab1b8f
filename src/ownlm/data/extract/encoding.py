"""Bytes to text: which encoding a document is in, and decoding it as the web does.

In this order: a byte order mark; UTF-16 that lacks one; UTF-8 wherever the bytes are valid UTF-8, whatever is declared
(bytes of another encoding hardly ever are by chance); the declared encoding, the server's before the document's own;
what a detector finds. Labels mean what the WHATWG Encoding Standard says: ``latin1`` is windows-1252, ``gb2312`` is
GB 18030.
"""

from __future__ import annotations

import codecs
import functools
import re
from dataclasses import dataclass
from typing import Any

from ...errors import MissingExtra
from .result import ExtractError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ISO2022 = re.compile(rb"\x1b\$(?:\)C|[@B]|\([A-Z@])")
# Where a document declares its own encoding: HTML 5 (13.2.3.2) looks at 1,024 bytes, real pages need a little more.
_PRESCAN = 4096
_META = re.compile(rb"<meta[^>]{1,400}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.I)
_XML = re.compile(rb"^\s*<\?xml[^>]{1,200}?encoding\s*=\s*[\"']([\w.:-]{2,40})", re.I)
# What Python calls the superset that browsers use, or that the detector means by its own name.
_SUPERSETS = {
    "ascii": "cp1252",
    "big5": "big5hkscs",
    "euc_kr": "cp949",
    "euckr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso8859_1": "cp1252",
    "iso8859_9": "cp1254",
    "iso8859_11": "cp874",
    "latin_1": "cp1252",
    "shift_jis": "cp932",
    "tis_620": "cp874",
    "uhc": "cp949",
}
_DOUBLE_BYTE = ("big5hkscs", "cp932", "cp949", "cp950", "euc_jp", "gb18030")
# Left out of the standard, since text can hide in it that a filter does not see.
_REFUSED = ("utf_7", "idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined")
_WINDOWS = ("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874")
# Few bytes above 127 leave the detector with too little: one of the rarer encodings is believed only where windows-1252
# would give other characters than French, German, Italian, Spanish, Portuguese, Dutch and Scandinavian texts have.
_COMMON = (*_WINDOWS, *_DOUBLE_BYTE, "koi8_r", "koi8_u", "iso8859_2", "iso8859_5", "iso8859_7", "cp866")
_WINDOWS_TWINS = {"iso8859_2": "cp1250", "iso8859_7": "cp1253", "iso8859_13": "cp1257", "iso8859_15": "cp1252"}
_WESTERN = {ord(c): None for c in "àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿßœÀÁÂÄÅÆÇÈÉÊËÑÓÔÖØÚÜŒ€£§°ºª«»“”„‘’–—…•·¿¡©®™½\xa0"}
_REPLACEMENT = "\ufffd"
# What a detector looks at.
_SAMPLE = 1 << 16
# All control characters but tab, line ends, form feed, backspace (of old manual pages) and escape (ISO-2022).
_CONTROLS = bytes(set(range(32)) - {8, 9, 10, 11, 12, 13, 27}) + b"\x7f"
_ASCII, _ABOVE_ASCII = bytes(range(128)), bytes(range(128, 256))
# Formats that start with letters and may hold few control characters in their first bytes.
_BINARY = (b"%PDF-", b"PK\x03\x04", b"\x89PNG", b"GIF8", b"\xff\xd8\xff", b"\x1f\x8b", b"\x7fELF", b"\xd0\xcf\x11\xe0")


@dataclass(frozen=True)
class Decoded:
    """Decoded content.

    Attributes:
        text: with U+FFFD for each byte sequence that the encoding does not have.
        encoding: Python's name of it.
        note: what went wrong, or the encoding where it had to be guessed.
    """

    text: str
    encoding: str
    note: tuple[str, ...] = ()


def decode(content: bytes, charset: str | None = None) -> Decoded:
    """Decodes a text or a page.

    Args:
        content: its bytes.
        charset: what the server or the container declares, or None.

    Raises:
        ExtractError: ``empty``, or ``not-text`` for binary content.
    """
    if not content:
        raise ExtractError("empty", "there is nothing in it")
    if content.isascii() and b"\0" not in content[:_SAMPLE]:
        return _seven_bits(content)
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return _with_errors(content[len(mark) :], encoding)
    if unmarked := _unmarked_utf16(content[:_SAMPLE]):
        return _with_errors(content, unmarked)
    refuse_binary(content)
    declared = [name for label in (charset, _declared_inside(content)) if label and (name := python_name(label))]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return _not_utf8(content, declared)
    # Two or three characters of a double-byte encoding may look like UTF-8; more of them do not.
    if declared and declared[0] in _DOUBLE_BYTE and _few_wide(text):
        try:
            return Decoded(content.decode(declared[0]), declared[0])
        except UnicodeDecodeError:
            pass
    return Decoded(text, "utf-8")


def refuse_binary(content: bytes) -> None:
    """Raises ``ExtractError`` with ``not-text`` where bytes are plainly none of a text."""
    head = content[:_SAMPLE]
    controls = len(head) - len(head.translate(None, _CONTROLS))
    # Random bytes hold one control character in nine; text a stray one, and a page that lost bytes some NULs.
    if content.startswith(_BINARY) or controls * 50 > len(head):
        raise ExtractError("not-text", "it is binary content, not text")


def python_name(label: str) -> str | None:
    """Python's codec for an encoding's label as the web understands it, or None for an unknown one."""
    label = label.strip(" \t\r\n\"';").lower()
    known = _resiliparse().map_encoding_to_html5(label, False) or label
    try:
        name = codecs.lookup(known).name.replace("-", "_")
    except (LookupError, UnicodeError, ValueError):
        return None
    if name in _REFUSED or not _is_text_codec(name):
        return None
    return _SUPERSETS.get(name, name)


def _resiliparse() -> Any:
    try:
        from resiliparse.parse import encoding
    except ImportError:
        raise MissingExtra("reading text in other encodings", "data") from None
    return encoding


def _is_text_codec(name: str) -> bool:
    try:
        "".encode(name)
    except (LookupError, TypeError, UnicodeError):
        return False
    return True


def _declared_inside(content: bytes) -> str | None:
    """What an HTML or XML document says of itself."""
    head = content[:_PRESCAN]
    found = _META.search(head) or _XML.search(head)
    # It was read as single bytes, so it cannot be UTF-16.
    label = found[1].decode("ascii", "ignore") if found else None
    return "utf-8" if label and label.lower().startswith("utf-16") else label


def _seven_bits(content: bytes) -> Decoded:
    refuse_binary(content)
    # Japanese and Korean mail switch between character sets by escape sequences.
    if escape := _ISO2022.search(content):
        for name in ("iso2022_kr",) if escape[0] == b"\x1b$)C" else ("iso2022_jp", "iso2022_jp_3"):
            try:
                return Decoded(content.decode(name), name)
            except UnicodeDecodeError:
                pass
    return Decoded(content.decode("ascii"), "ascii")


def _not_utf8(content: bytes, declared: list[str]) -> Decoded:
    for name in dict.fromkeys((*declared, "utf_8")):
        decoded = _with_errors(content, name)
        # Content that was cut or spliced has few broken places among whole characters.
        few = _errors(decoded) * 20 <= _wide_bytes(content)
        if few and not (name == "cp1252" and _hardly_latin(content)):
            return decoded
    guess = _detect(content)
    decoded = _with_errors(content, guess)
    return Decoded(decoded.text, guess, (f"decoded as {guess}", *decoded.note))


def _detect(content: bytes) -> str:
    # The detector's own mapping to the web's labels loses Korean, so its raw answer is mapped here.
    found = _resiliparse().detect_encoding(content, max_len=_SAMPLE, html5_compatible=False)
    name = python_name(found) if found else None
    if name is None or name.startswith(("utf_", "ascii")):
        return "cp1252"
    # No text uses the control characters that ISO 8859 has where Windows has quotation marks.
    if name in _WINDOWS_TWINS and len(content) != len(content.translate(None, bytes(range(0x80, 0xA0)))):
        return _WINDOWS_TWINS[name]
    if name not in _COMMON and not _windows_text(content).translate(_WESTERN):
        return "cp1252"
    return name


def _windows_text(content: bytes) -> str:
    return codecs.charmap_decode(content[:_SAMPLE].translate(None, _ASCII), "strict", _windows_table("cp1252"))[0]


def _with_errors(content: bytes, encoding: str) -> Decoded:
    if encoding in _WINDOWS:
        return Decoded(codecs.charmap_decode(content, "strict", _windows_table(encoding))[0], encoding)
    for name in (encoding, "cp950") if encoding == "big5hkscs" else (encoding,):
        try:
            return Decoded(content.decode(name), name)
        except UnicodeDecodeError:
            pass
    text = content.decode(encoding, "replace")
    return Decoded(text, encoding, (f"{text.count(_REPLACEMENT)} places are not valid {encoding}",))


@functools.cache
def _windows_table(encoding: str) -> str:
    """The 256 characters of an encoding; bytes that Windows left undefined are C1 controls, as in the standard."""
    characters = (bytes([byte]).decode(encoding, "replace") for byte in range(256))
    return "".join(chr(byte) if found == _REPLACEMENT else found for byte, found in enumerate(characters))


def _errors(decoded: Decoded) -> int:
    return decoded.text.count(_REPLACEMENT) if decoded.note else 0


def _wide_bytes(content: bytes) -> int:
    head = content[:_SAMPLE]
    return len(head) - len(head.translate(None, _ABOVE_ASCII))


def _unmarked_utf16(sample: bytes) -> str | None:
    """UTF-16 without a byte order mark: every text of some length holds a space or a line end, whose one byte is 0."""
    if b"\0" not in sample or len(sample) < 4:
        return None
    best, most = None, 0
    for encoding in ("utf-16-le", "utf-16-be"):
        text = sample[: len(sample) // 2 * 2].decode(encoding, "replace")
        # The wrong order turns a space into U+2000 and a letter into an ideograph: the right one has more ASCII.
        plain = sum(map(text.count, " \n\r\t.,0123456789aeinot-\u3000\u3001\u3002\uff0c"))
        printable = sum(c.isprintable() or c.isspace() for c in text)
        if plain > most and printable >= 0.98 * len(text) and "\0" not in text:
            best, most = encoding, plain
    return best


def _few_wide(text: str) -> bool:
    return len(text) - len(text.encode("ascii", "ignore")) <= 3


def _hardly_latin(content: bytes) -> bool:
    """Servers declare latin1 for everything; no Latin text has a third of its bytes above 127."""
    return _wide_bytes(content) * 3 > min(len(content), _SAMPLE)
