"""What a file holds: its first bytes say, its name only where they leave it open.

| kind | known by its bytes | by its name |
|---|---|---|
| pdf, parquet, gz, bz2, xz, zst, warc, arc, tar | yes | not needed |
| zip | yes; a Word document is a zip with certain members, so the zip's reader tells | |
| html | a doctype or an html element at its beginning | .html .htm .xhtml |
| json, jsonl | only where the name says nothing | .json .jsonl .ndjson |
| csv, tsv | no | .csv .tsv |
| text, markdown, rst | no | .txt .md .rst, no suffix at all, or named by the user |
"""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath

from .records import Unreadable

HEAD = 1 << 14

_SUFFIXES = {
    ".txt": "text",
    ".text": "text",
    ".tokens": "text",
    ".raw": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".rst": "rst",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
    ".docx": "docx",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".warc": "warc",
    ".wet": "warc",
    ".arc": "arc",
    ".zip": "zip",
    ".tar": "tar",
    ".gz": "gz",
    ".bz2": "bz2",
    ".xz": "xz",
    ".zst": "zst",
    ".tgz": "gz",
    ".tbz2": "bz2",
    ".txz": "xz",
    ".tzst": "zst",
}
# A compressed tar may carry one suffix for both.
_SHORT_TARS = (".tgz", ".tbz2", ".txz", ".tzst")
COMPRESSED = ("gz", "bz2", "xz", "zst")
TEXTUAL = ("text", "markdown", "rst", "html", "jsonl", "json", "csv", "tsv")

# Each format's own specification gives its first bytes.
_MAGICS = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "gz"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zst"),
    (b"PAR1", "parquet"),
    (b"WARC/", "warc"),
    (b"filedesc://", "arc"),
)
_BZIP2 = re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")
_ZSTD_SKIP = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
_HTML = re.compile(rb"\s*(<\?xml[^>]{0,200}\?>\s*)?(<!--.{0,2000}?-->\s*)*(<!doctype\s+html|<html[\s>])", re.I | re.S)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# Word's name for the stream of a password-protected document, as its container spells it.
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
# Control characters that no text has: all but tab, line ends, form feed, backspace and escape.
_CONTROLS = bytes(set(range(32)) - {8, 9, 10, 11, 12, 13, 27})


def kind_of_name(name: str) -> str:
    """The kind that a file's name promises: "bare" for a name without any suffix, "" for an unknown one."""
    path = PurePosixPath(name)
    return _SUFFIXES.get(path.suffix.lower(), "") if path.suffix else "bare"


def inner_name(name: str) -> str:
    """The name of what a compressed file holds: "a.txt" for "a.txt.gz", "a.tar" for "a.tgz"."""
    path = PurePosixPath(name)
    if path.suffix.lower() in _SHORT_TARS:
        return str(path.with_suffix(".tar"))
    return str(path.with_suffix("")) if _SUFFIXES.get(path.suffix.lower()) in COMPRESSED else name


def sniff(head: bytes, kind: str) -> str:
    """What a file holds.

    Args:
        head: its first bytes, ``HEAD`` of them where there are so many.
        kind: what its name promises.

    Returns:
        A kind; never "docx", which its first bytes cannot tell from "zip".

    Raises:
        Unreadable: empty, binary or encrypted, or plainly not what its name promises.
    """
    if not head:
        raise Unreadable("empty", "it has no bytes")
    found = _by_magic(head, kind)
    if found:
        return found
    textual = looks_textual(head)
    if textual and _HTML.match(head.removeprefix(_BOMS[0])):
        return "html"
    if not textual:
        if kind in ("", "bare"):
            raise Unreadable("unsupported", "it is a binary file of a kind that is not read")
        raise Unreadable("mislabelled", f"its name promises {kind}, its bytes are of no kind that is read")
    if kind in ("json", "jsonl"):
        return _json_kind(head, kind)
    if kind in TEXTUAL:
        return kind
    if found := _json_kind(head, ""):
        return found
    if kind == "bare":
        return "text"
    if kind == "":
        raise Unreadable("unsupported", "its suffix is unknown; a file that is named itself is read as plain text")
    raise Unreadable("mislabelled", f"its name promises {kind}, but it holds plain text")


def is_tar(head: bytes) -> bool:
    """Whether a file is a tar by its magic number."""
    return head[257:262] == b"ustar"


def looks_textual(head: bytes) -> bool:
    """Whether bytes could be text in some encoding."""
    if head.startswith(_BOMS):
        return True
    # A stray control character stands in many an old text.
    if (len(head) - len(head.translate(None, _CONTROLS))) * 100 <= len(head):
        return True
    # UTF-16 without its mark: nearly every other byte is zero, and the others hardly ever.
    even, odd = head[0::2].count(0), head[1::2].count(0)
    return max(even, odd) > len(head) * 0.3 and min(even, odd) < len(head) * 0.02


def _by_magic(head: bytes, kind: str) -> str:
    for magic, found in _MAGICS:
        if head.startswith(magic):
            return found
    if head.startswith(b"PARE"):
        raise Unreadable("encrypted", "it is an encrypted Parquet file")
    if head.startswith(_OLE):
        if kind == "docx" or _ENCRYPTED_PACKAGE in head:
            raise Unreadable("encrypted", "it is protected by a password, or in the format that Word had before 2007")
        raise Unreadable("unsupported", "it is in an office format from before 2007")
    if _BZIP2.match(head):
        return "bz2"
    if _ZSTD_SKIP.match(head):
        return "zst"
    if is_tar(head) or (kind == "tar" and _is_old_tar(head)):
        return "tar"
    # Readers allow some bytes before a PDF's header; only a name can make a text that speaks of one into a PDF.
    if head.lstrip(b"\xef\xbb\xbf \t\r\n\0").startswith(b"%PDF-") or (kind == "pdf" and b"%PDF-" in head[:1024]):
        return "pdf"
    return ""


def _is_old_tar(head: bytes) -> bool:
    """Tar files from before POSIX have no magic number, only the sum of their header's bytes."""
    try:
        stated = int(head[148:156].strip(b"\0 ") or b"-1", 8)
    except ValueError:
        return False
    return len(head) >= 512 and stated == sum(head[:148]) + 8 * 0x20 + sum(head[156:512])


def _json_kind(head: bytes, kind: str) -> str:
    """ "json" or "jsonl" by the first line of either; ``kind`` where that leaves it open.

    Raises:
        Unreadable: the name promises JSON Lines, and no line of the beginning could be one.
    """
    lines = [line.strip() for line in head.removeprefix(_BOMS[0]).split(b"\n")]
    filled = [line for line in lines if line]
    if not filled:
        return kind
    if kind == "jsonl" and not any(line.startswith((b"{", b"[")) for line in filled):
        raise Unreadable("mislabelled", "its name promises JSON Lines, but it has no line of JSON")
    first = filled[0]
    if first.startswith(b"[") and kind != "":
        # A list as a line of its own is JSON Lines gone wrong, which its lines then tell.
        return "json" if kind == "json" or not _parses(first) or len(filled) == 1 else "jsonl"
    if first == b"{" and kind:
        return "json"
    if first.startswith(b"{") and _parses(first):
        return "jsonl"
    return kind


def _parses(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
