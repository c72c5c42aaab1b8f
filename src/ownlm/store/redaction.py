"""Personal data and secrets in what is about to be kept, masked or replaced before it is written.

The search is that of ``ownlm data build``: what a conversation says goes through it as a document's metadata does, each
text with its key before it, JSON within strings included, and one value gets one stand-in in the whole conversation.
"""

from __future__ import annotations

import json
from typing import Any

from ..data.personal.options import PersonalOptions
from ..errors import MissingExtra


class Redaction:
    """Writes over personal data.

    Args:
        options: what to look for and what becomes of it; None keeps everything as it is.
    """

    def __init__(self, options: PersonalOptions | None) -> None:
        self.options = options

    def __call__(self, value: Any) -> Any | None:
        """A value of JSON without personal data, or None where a policy says that it must not be kept at all.

        Raises:
            MissingExtra: a library that searches is not installed.
        """
        value = cleaned(value)
        if self.options is None:
            return value
        try:
            import pyarrow as pa
        except ModuleNotFoundError:
            raise MissingExtra("searching for personal data", "serve") from None
        from ..data.personal.carried import Carried
        from ..data.personal.find import find_spans, spans_by_document
        from ..data.personal.redact import dropped_for, edits

        written = json.dumps(value, ensure_ascii=False)
        carried = Carried({"metadata": written})
        spans = spans_by_document(find_spans(pa.array([carried.text], pa.large_string()), self.options)).get(0, [])
        if dropped_for(spans, self.options):
            return None
        new = carried.edited(edits(carried.text, spans, self.options), 0)
        return json.loads(new.get("metadata", written))


def cleaned(value: Any) -> Any:
    """A value of JSON that every database takes: no NUL, which PostgreSQL has no place for, and no half characters."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode(errors="replace").decode()
    if isinstance(value, dict):
        return {cleaned(key): cleaned(inner) for key, inner in value.items()}
    return [cleaned(inner) for inner in value] if isinstance(value, list | tuple) else value
