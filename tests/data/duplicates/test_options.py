"""How bands are laid out, against exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from pydantic import ValidationError

from ownlm.data.duplicates import DuplicateOptions
from ownlm.data.duplicates.options import MISS, UNLIKELY, bands_of, least_matches


@pytest.mark.parametrize("permutations", [32, 64, 128, 256])
@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0])
def test_a_pair_at_the_threshold_is_hardly_ever_missed(threshold: float, permutations: int) -> None:
    bands, rows = bands_of(threshold, permutations)
    assert bands * rows <= permutations

    def miss(rows: int) -> Fraction:
        return (1 - Fraction(threshold) ** rows) ** (permutations // rows)

    assert miss(rows) <= MISS
    assert all(miss(more) > MISS for more in range(rows + 1, permutations + 1))


def test_the_usual_bands() -> None:
    assert bands_of(0.8, 128) == (25, 5)
    assert (1 - 0.8**5) ** 25 < 5e-5


@pytest.mark.parametrize("permutations", [32, 128, 256])
@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95, 1.0])
def test_a_pair_at_the_threshold_agrees_often_enough(threshold: float, permutations: int) -> None:
    p = Fraction(threshold)
    least = least_matches(threshold, permutations)
    chances = [math.comb(permutations, k) * p**k * (1 - p) ** (permutations - k) for k in range(permutations + 1)]
    assert sum(chances[:least]) <= UNLIKELY * 1.001
    assert least == permutations or sum(chances[: least + 1]) >= UNLIKELY * 0.999


@pytest.mark.parametrize("wrong", [{"near": 0.3}, {"near": 1.1}, {"permutations": 100}, {"ngram": 0}, {"keep": "any"}])
def test_wrong_options(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DuplicateOptions.model_validate(wrong)
