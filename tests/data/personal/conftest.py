"""What the tests of personal data share: one text in, its finds out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pa = pytest.importorskip("pyarrow")
pytest.importorskip("phonenumbers")
pytest.importorskip("stdnum")

Finds = list[tuple[str, str, str]]


@pytest.fixture(scope="session")
def finds() -> Callable[..., Finds]:
    """(kind, value, detail) of everything found in a text, with the options given."""
    from ownlm.data.personal.find import find_spans, spans_by_document
    from ownlm.data.personal.options import PersonalOptions

    def search(text: str, **options: Any) -> Finds:
        table = find_spans(pa.array([text], pa.large_string()), PersonalOptions(**options))
        spans = spans_by_document(table).get(0, [])
        return [(span.kind, text[span.start : span.end], span.detail) for span in spans]

    return search


@pytest.fixture(scope="session")
def values(finds: Callable[..., Finds]) -> Callable[..., list[str]]:
    """The values of one kind found in a text."""

    def search(kind: str, text: str, **options: Any) -> list[str]:
        return [value for found, value, _ in finds(text, **options) if found == kind]

    return search
