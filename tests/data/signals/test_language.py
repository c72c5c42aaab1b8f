"""Languages against py3langid's own code, one text at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.data.signals import measure
from ownlm.data.signals.block import read_block
from ownlm.data.signals.language import SNIPPET_BYTES, cut_snippets, identify, join_snippets

SENTENCES = {
    "en": "The committee will meet again next week to discuss what should be done about the old bridge.",
    "de": "Der Ausschuss trifft sich nächste Woche noch einmal, um über die alte Brücke zu sprechen.",
    "fr": "Le comité se réunira de nouveau la semaine prochaine pour parler du vieux pont.",
    "es": "El comité se reunirá otra vez la próxima semana para hablar sobre el puente viejo.",
    "it": "Il comitato si riunirà di nuovo la prossima settimana per discutere del vecchio ponte.",
    "pl": "Komisja spotka się ponownie w przyszłym tygodniu, aby porozmawiać o starym moście.",
    "nl": "De commissie komt volgende week opnieuw bijeen om over de oude brug te praten.",
    "fi": "Lautakunta kokoontuu ensi viikolla uudelleen keskustelemaan vanhasta sillasta.",
    "tr": "Kurul, eski köprü hakkında konuşmak için gelecek hafta yeniden toplanacak.",
    "ru": "Комитет снова соберётся на следующей неделе, чтобы обсудить старый мост.",
    "el": "Η επιτροπή θα συναντηθεί ξανά την επόμενη εβδομάδα για να μιλήσει για την παλιά γέφυρα.",
    "ar": "ستجتمع اللجنة مرة أخرى الأسبوع المقبل لمناقشة الجسر القديم.",
    "hi": "समिति पुराने पुल के बारे में बात करने के लिए अगले हफ्ते फिर मिलेगी।",
    "zh": "委员会将在下周再次开会，讨论如何处理那座古老的桥梁。",
    "ja": "委員会は来週もう一度集まり、古い橋をどうするかについて話し合います。",
    "ko": "위원회는 다음 주에 다시 모여 오래된 다리에 대해 이야기할 것입니다.",
}


@pytest.fixture(scope="module")
def reference() -> Any:
    langid = pytest.importorskip("py3langid.langid")
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


def told(texts: list[str]) -> list[tuple[str, float]]:
    names, scores = identify(cut_snippets(read_block(pa.array(texts, pa.large_string()))))
    return list(zip(names.tolist(), scores.tolist(), strict=True))


def test_languages() -> None:
    table = measure(pa.array(list(SENTENCES.values()), pa.large_string()))
    assert table["language"].to_pylist() == list(SENTENCES)
    assert min(table["language_score"].to_pylist()) > 0.6


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.sampled_from(" ".join(SENTENCES.values()).split()), min_size=5, max_size=12), max_size=5))
def test_as_py3langid_says(reference: Any, texts: list[list[str]]) -> None:
    joined = [" ".join(words) for words in texts]
    for text, (name, score) in zip(joined, told(joined), strict=True):
        assert len(text.encode()) < SNIPPET_BYTES
        # A space is put after every line.
        expected, confidence = reference.classify(text + " ")
        if sum(letter.isalpha() for letter in text) >= 12:
            assert name == expected.replace("zxx", "und")
            assert score == pytest.approx(confidence, abs=2e-3)


@pytest.mark.parametrize("text", ["", " ", "Yes.", "12 34 56 78 90 12 34 56", "?!?!?! ... !!!", "a b c"])
def test_too_little_to_tell(text: str) -> None:
    assert told([text, SENTENCES["de"], text])[0] == ("und", 0.0)
    assert told([text, SENTENCES["de"], text])[1][0] == "de"


def test_markup_and_notices_are_passed_over() -> None:
    head = "---\ntitle: The English title of a page\nlayout: post\ntags: [one, two, three, four]\n---\n"
    code = "\n".join(f"    result_{i} = compute(values[{i}], {i} * 2);" for i in range(40))
    body = "\n\n".join([SENTENCES["de"]] * 12)
    assert told([f"{head}{code}\n{body}\n\nAll rights reserved. Read our terms of use.\n"])[0][0] == "de"


def test_capitals() -> None:
    assert told([SENTENCES["en"].upper()])[0][0] == "en"


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.lists(st.sampled_from(["word wérd 中文字 text of prose ", "\n", "x = 1;\n", "é", ""]), max_size=60),
        max_size=4,
    )
)
def test_a_snippet_is_the_middle_of_the_prose(pieces: list[list[str]]) -> None:
    texts = ["".join(piece) for piece in pieces]
    snippets = cut_snippets(read_block(pa.array(texts, pa.large_string())))
    again = join_snippets([cut_snippets(read_block(pa.array([text], pa.large_string()))) for text in texts])
    assert np.array_equal(snippets.data, again.data)
    assert np.array_equal(snippets.offsets, again.offsets)
    for number, text in enumerate(texts):
        lines = [line.strip().encode() for line in text.split("\n") if line.strip()]
        signs = [sum(c in "=;1" for c in line.decode()) for line in lines]
        prose = [line for line, bad in zip(lines, signs, strict=True) if bad <= 0.12 * len(line) and len(line) >= 25]
        joined = b"".join(line + b" " for line in prose or lines)
        skip = max(0, len(joined) - SNIPPET_BYTES) // 2
        found = snippets.data[snippets.offsets[number] : snippets.offsets[number + 1]].tobytes()
        assert found == joined[skip : skip + SNIPPET_BYTES]
