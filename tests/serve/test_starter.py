"""The starter model, as anybody would serve it."""

from __future__ import annotations

import pytest

from ownlm.model import registry

from .conftest import Start

STARTER = "smollm2-135m-instruct"


def test_the_starter_model_says_hello(start_server: Start):
    folder = registry.cached(STARTER)
    if folder is None:
        pytest.skip(f"the starter model is not here: run 'ownlm pull {STARTER}'")
    with start_server(folder, name=STARTER) as server:
        answer = server.client().chat.completions.create(
            model=STARTER,
            messages=[{"role": "user", "content": "What is the capital of France?"}],
            temperature=0,
            max_tokens=40,
        )
        assert "Paris" in (answer.choices[0].message.content or "")
        vectors = server.client().embeddings.create(
            model=STARTER, input=["The cat sat on the mat.", "A cat is sitting on a mat.", "Shares fell on Monday."]
        )
        near, far = (
            sum(a * b for a, b in zip(vectors.data[0].embedding, vectors.data[i].embedding, strict=True))
            for i in (1, 2)
        )
        assert near > far
        assert server.stop() == 0
