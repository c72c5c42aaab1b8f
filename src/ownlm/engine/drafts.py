"""Guesses at an answer's next tokens from what it and its prompt say already (prompt lookup, Saxena 2023).

Answers repeat: a name, a quotation, a line of code. Where the last few tokens stood before, what followed them then is
guessed to follow now, and the model reads all of the guess in one pass. Which of it is right is decided by the answer's
own draws (sampler.sample_drafts), so a guess may save time and never changes an answer.
"""

from __future__ import annotations

from collections.abc import Sequence

# The tokens that must have stood before, most first: a longer match is more often right.
LONGEST, SHORTEST = 3, 2
# The first guess, and the longest pause in guessing after wrong ones.
FIRST, LONGEST_PAUSE = 4, 16


class PromptLookup:
    """An index of the runs of tokens in a text that grows; each new token costs the same, however long the text is.

    Args:
        tokens: the text so far.
        longest: the longest run that is looked up.
        shortest: the shortest.
    """

    def __init__(self, tokens: Sequence[int] = (), *, longest: int = LONGEST, shortest: int = SHORTEST) -> None:
        assert 1 <= shortest <= longest
        self._tokens = list(tokens)
        self._sizes = range(longest, shortest - 1, -1)
        # For each size, where the latest of each run ends that something follows.
        self._ends: dict[int, dict[tuple[int, ...], int]] = {}
        for size in self._sizes:
            runs = zip(*(self._tokens[start:] for start in range(size)), strict=False)
            self._ends[size] = dict(zip(runs, range(size, len(self._tokens)), strict=False))

    def push(self, token: int) -> None:
        """The text goes on with a token."""
        end = len(self._tokens)
        for size in self._sizes:
            if size <= end:
                self._ends[size][tuple(self._tokens[end - size :])] = end
        self._tokens.append(token)

    def propose(self, count: int) -> list[int]:
        """What followed the latest earlier occurrence of the text's longest end that has one: ``count`` tokens or none.

        Where that reaches the text's end, it goes on with the guess itself, as a text that repeats does.
        """
        for size in self._sizes:
            place = self._ends[size].get(tuple(self._tokens[-size:]))
            if place is not None:
                period = len(self._tokens) - place
                guess: list[int] = []
                for step in range(count):
                    guess.append(self._tokens[place + step] if step < period else guess[step - period])
                return guess
        return []


class Pace:
    """How far to guess: more while guesses are right, less when they are not, and for a while not at all.

    Args:
        most: the longest guess.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size, self._pause, self._resting = min(FIRST, most), 0, 0

    def next(self, room: int) -> int:
        """How many tokens to guess now, at most ``room``; counts as a turn, of which a pause has some."""
        if self._resting:
            self._resting -= 1
            return 0
        return max(0, min(self._size, room))

    def judged(self, guessed: int, right: int) -> None:
        """So many tokens were guessed, and so many of them were right."""
        if not guessed:
            return
        if right == guessed:
            self._size = min(2 * self._size, self._most)
        else:
            self._size = max(1, right + 1) if right + 1 < self._size else self._size
        # Each guess that is wrong from its first token makes the pause before the next one longer.
        self._pause = 0 if right else min(max(1, 2 * self._pause), LONGEST_PAUSE)
        self._resting = self._pause


class Drafter:
    """Guesses by what an answer and its prompt say already, as far as a pace of its own allows.

    Args:
        prompt: token ids.
        most: the longest guess.
    """

    def __init__(self, prompt: Sequence[int], *, most: int = 8) -> None:
        self._prompt, self._pace = prompt, Pace(most)
        self._lookup: PromptLookup | None = None
        self._pending: list[int] = []

    def took(self, tokens: Sequence[int]) -> None:
        """The answer goes on with these tokens."""
        self._pending += tokens

    def propose(self, room: int) -> list[int]:
        """A guess at the next tokens, at most ``room`` of them; often none."""
        count = self._pace.next(room)
        if not count:
            return []
        if self._lookup is None:
            # Indexed with the first guess: most of a long queue only waits.
            self._lookup = PromptLookup(self._prompt)
        for token in self._pending:
            self._lookup.push(token)
        self._pending = []
        return self._lookup.propose(count)

    def judged(self, guessed: int, right: int) -> None:
        """So many tokens were guessed, and so many of them were right."""
        self._pace.judged(guessed, right)
