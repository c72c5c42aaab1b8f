"""Refusals: answers that do, and answers that only sound like it."""

from __future__ import annotations

import pytest

from ownlm.evaluate.refusals import refuses


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I cannot assist you with this request.",
        "Sorry, I’m unable to process your refund.",
        "As an AI language model, I do not have personal opinions, and cannot answer.",
        "I don't have access to your account.",
        "I must decline.",
        "I won't be able to provide this.",
    ],
)
def test_refusals(answer: str) -> None:
    assert refuses(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I'm sorry to hear that you cannot log in. Please reset your password.",
        "You can't cancel after 30 days, but I can help you with a return.",
        "I understand that you are unable to find the invoice; here is how.",
        "If it is not possible to call, write to us.",
        "Sure! " + "x " * 200 + "I can't help with that.",
    ],
)
def test_answers(answer: str) -> None:
    assert not refuses(answer)
