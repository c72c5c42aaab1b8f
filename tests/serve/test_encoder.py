"""A model that writes nothing makes vectors, the same as the public library's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openai
import pytest
import torch
import transformers

from .conftest import NAME, Start


def test_an_encoder_serves_vectors_and_nothing_else(start_server: Start, encoder: Path):
    texts = ["the model reads text", "who?", "a word by word " * 5]
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    model = transformers.AutoModel.from_pretrained(encoder, dtype=torch.float32).eval()
    with start_server(encoder) as server:
        assert server.sent["capabilities"] == ["embeddings"]
        client = server.client()
        found = client.embeddings.create(model=NAME, input=texts)
        for text, item in zip(texts, found.data, strict=True):
            with torch.no_grad():
                mean = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
            assert np.abs(np.array(item.embedding) - (mean / mean.norm()).numpy()).max() < 1e-5
        assert found.usage.prompt_tokens == sum(len(tokenizer(text).input_ids) for text in texts)
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "a"}])
        assert "embeddings" in caught.value.message
        assert server.post("/v1/chat/render", {"model": NAME, "messages": []}).status_code == 400
        assert server.get("/ready").status_code == 200
        assert server.stop() == 0
