"""Repairing text: what every document and every message goes through.

Clean text, nearly all there is, is only looked at. What is repaired:

- mojibake (``mojibake.py``), and surrogates that a broken program left behind;
- line ends: every kind becomes ``\\n``, a form feed and U+2028 too; spaces and tabs before them go, and of blank lines
  running at most two stay, as many as Python's own style puts between functions;
- control characters and terminal escapes are removed;
- spaces of other widths become plain ones; a tab stays a tab;
- characters that nobody sees are removed: byte order marks, soft hyphens, zero-width spaces, marks of direction, tags
  (a way to hide text from a reader). A zero-width joiner or non-joiner stays in emoji and in scripts that are spelled
  with it (Persian, the scripts of India), a zero-width space in those that part words by it (Thai, Khmer, Burmese).

HTML entities in plain text stay: text about HTML needs them.
"""

from __future__ import annotations

import re
import unicodedata

from .characters import BREAKS, JOINERS, SPACES, look
from .mojibake import fix_mojibake
from .options import ExtractOptions

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_LONE = re.compile("[\ud800-\udfff]")
# ECMA-48's control sequences, such as colours, and what old manual pages print twice.
_TERMINAL = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]|[^\n\x08]\x08")
# A joiner after a Latin letter, a sign, a space or at the beginning joins nothing.
_VAIN_JOINER = re.compile("(?<![^\x00-\u02ff\u2000-\u206f])[\u200c\u200d]+")
_VAIN_SPACE = re.compile("(?<![\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff])\u200b+")
# The flags of England, Scotland and Wales are a black flag and tags.
_TAG = re.compile("(\U0001f3f4[\U000e0020-\U000e007e]{2,8}\U000e007f)|[\U000e0000-\U000e007f]")
_BLANK_LINES = re.compile(r"\n{4,}")


def repair(text: str, options: ExtractOptions) -> str:
    """The text repaired and normalised; a text that needs neither comes back as it is.

    Whatever the options, the result can be encoded as UTF-8.
    """
    text = _join_surrogates(text)
    if options.repair:
        seen = look(text)
        if seen.mojibake and (fixed := fix_mojibake(text)) != text:
            text = _join_surrogates(fixed)
            seen = look(text)
        if seen.tags:
            text = _TAG.sub(r"\1", text)
        if seen.odd:
            text = _plain_characters(text, seen.odd)
    if options.normalize != "none" and not text.isascii() and not unicodedata.is_normalized(options.normalize, text):
        text = unicodedata.normalize(options.normalize, text)
    return tidy_lines(text) if options.repair else text


def tidy_lines(text: str) -> str:
    """The text without spaces at its lines' ends, without line ends at its own, and with two blank lines at most."""
    if " \n" in text or "\t\n" in text or text.endswith((" ", "\t")):
        text = "\n".join([line.rstrip(" \t") for line in text.split("\n")])
    if "\n\n\n\n" in text:
        text = _BLANK_LINES.sub("\n\n\n", text)
    return text.strip("\n")


def _join_surrogates(text: str) -> str:
    """Two surrogates become the character they stand for, one alone is removed."""
    if text.isascii():
        return text
    try:
        text.encode("utf-16-le")
        return text
    except UnicodeEncodeError:
        text = _PAIR.sub(lambda pair: pair[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le"), text)
        return _LONE.sub("", text)


def _plain_characters(text: str, odd: str) -> str:
    """Replaces or removes each of the odd characters, all of which the text holds."""
    if "\x1b" in odd or "\x08" in odd:
        text = _TERMINAL.sub("", text)
    if "\r" in odd:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    for character in odd:
        if character not in JOINERS:
            text = text.replace(character, "\n" if character in BREAKS else " " if character in SPACES else "")
    if any(joiner in odd for joiner in JOINERS):
        text = _VAIN_JOINER.sub("", _VAIN_SPACE.sub("", text))
    return text
