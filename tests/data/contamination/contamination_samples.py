"""A few evaluation texts that several tests look for."""

from __future__ import annotations

METAL = "Which metal is liquid at room temperature and was used in old thermometers?"
TOWER = "In which year did engineers finish the iron tower beside the river in Paris?"
PASSAGE = (
    "The tower was planned by two engineers of a building firm. Workers finished it in the spring of 1889, after two "
    "years, for an exhibition that marked the centenary of the revolution. It was meant to stand for twenty years, but "
    "its use for radio telegraphy saved it from being taken down."
)
