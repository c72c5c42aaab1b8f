"""The user's choices, and what is wrong with some."""

from __future__ import annotations

import pytest

from ownlm.config import validate
from ownlm.data.personal.options import KINDS, PersonalOptions
from ownlm.errors import ConfigError


def test_policies() -> None:
    assert all(PersonalOptions().policy_of(kind) == "mask" for kind in KINDS)
    options = PersonalOptions(policy={"all": "replace", "secret": "drop"})
    assert options.policy_of("secret") == "drop"
    assert options.policy_of("email") == "replace"


def test_opt_in() -> None:
    assert set(KINDS) - set(PersonalOptions().kinds()) == {"address", "person"}
    assert PersonalOptions(names=True, addresses=True).kinds() == tuple(KINDS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"policy": {"emial": "mask"}}, "did you mean 'email'"),
        ({"policy": {"email": "hide"}}, "'hide' is not one of the choices"),
        ({"regions": ["Germany"]}, "two capital letters"),
        ({"name": True}, "did you mean 'names'"),
    ],
)
def test_mistakes(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(PersonalOptions, values)
    assert message in str(caught.value)
