"""Model -> numbers with intervals; and, called, the function: ``ownlm.evaluate(model, tasks=["wikitext"])``."""

from __future__ import annotations

from ..callable_package import make_callable

make_callable(__name__)
