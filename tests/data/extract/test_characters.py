"""The look at a whole text against the characters taken one by one."""

from __future__ import annotations

import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.data.extract.characters import BREAKS, CONTROLS, JOINERS, SPACES, UNSEEN, look

ODD = set("\r" + BREAKS + CONTROLS + JOINERS + SPACES + UNSEEN)
TEXTS = st.text(st.one_of(st.sampled_from(sorted(ODD)), st.characters(exclude_categories=["Cs"])), max_size=50)


@settings(deadline=None)
@given(TEXTS, st.booleans())
def test_it_finds_what_is_odd(text: str, long: bool) -> None:
    # Long texts are looked at by another way than short ones.
    seen = look(text + "a" * 2000 if long else text)
    tags = any("\U000e0000" <= c <= "\U000e007f" for c in text)
    assert set(seen.odd) == ODD & set(text)
    assert len(seen.odd) == len(set(seen.odd))
    assert seen.tags or not tags


def test_the_classes_are_those_of_unicode() -> None:
    spaces = {chr(i) for i in range(0x110000) if unicodedata.category(chr(i)) == "Zs"}
    assert set(SPACES) == spaces - {" "}
    controls = {chr(i) for i in range(0x110000) if unicodedata.category(chr(i)) == "Cc"}
    assert set(CONTROLS) == controls - set("\t\n\r" + BREAKS)
    # Of the format characters those stay that are seen, or that change what is: Arabic and other number signs, the
    # Mongolian vowel separator, Egyptian and shorthand joiners, music, and a tag's language.
    assert all(unicodedata.category(c) in ("Cf", "Cn", "So") for c in UNSEEN)
    assert all(unicodedata.category(c) == "Cf" for c in JOINERS)
