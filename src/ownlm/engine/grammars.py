"""Constraints become grammars that follow an answer token by token, through the library llguidance (MIT).

A constraint is tried in a process of its own first (grammar_trial.py), then compiled here, under the same limits, and
kept; so a constraint that many requests share is compiled once, and one that is hostile harms nobody else. What the
library does at each token is limited as well: a step that is too complex fails the answer, not the engine.
"""

from __future__ import annotations

import importlib.util
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..errors import MissingExtra, OwnlmError, UserError
from ..tokens.tokenizer import Tokenizer
from .constraints import Constraint
from .grammar_trial import NOTHING_FITS, Trial, TrialFailed
from .token_bytes import TokenBytes

if TYPE_CHECKING:
    import llguidance

# Constraints that are kept compiled, or known to be wrong.
KEPT = 64
SECONDS = 3.0
# Half of what the library allows by default, or less: some 100 MB and 10 ms a step at the most.
LIMITS: dict[str, Any] = {
    "max_items_in_row": 2000,
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 100_000,
    "step_max_items": 50_000,
    "max_lexer_states": 50_000,
    "max_grammar_size": 250_000,
    "verbose_errors": False,
}
STACK_BYTES = 16 * 2**20

T = TypeVar("T")


class GrammarCompiler:
    """Compiles constraints for one tokenizer; may be used from several threads, of which one compiles at a time.

    An engine has one. A server calls ``compiled`` in a thread beside the engine's before it submits a request, so that
    the engine finds it done.

    Args:
        tokenizer: of the model.
        seconds: how long compiling may take.
    """

    def __init__(self, tokenizer: Tokenizer, *, seconds: float = SECONDS) -> None:
        self._tokenizer, self._seconds = tokenizer, seconds
        self._kept: OrderedDict[Constraint, CompiledGrammar | OwnlmError] = OrderedDict()
        self._keeping, self._compiling = threading.Lock(), threading.Lock()
        self._vocabulary: Vocabulary | None = None
        self._trial: Trial | None = None

    def compiled(self, constraint: Constraint) -> CompiledGrammar:
        """The grammar of a constraint, at once where it is known.

        Raises:
            UserError: it cannot be compiled, or nothing fits it, or it takes too much time or memory.
            MissingExtra: llguidance is not installed.
            ModelError: the tokenizer is of a kind that constraints cannot follow.
        """
        known = self._find(constraint)
        if known is None:
            with self._compiling:
                known = self._find(constraint)
                if known is None:
                    known = self._compile(constraint)
                    self._keep(constraint, known)
        if isinstance(known, OwnlmError):
            raise type(known)(known.message, where=known.where, hint=known.hint)
        return known

    def close(self) -> None:
        """Ends the process that tries grammars; the next constraint begins another."""
        with self._compiling:
            if self._trial is not None:
                self._trial.close()

    def _find(self, constraint: Constraint) -> CompiledGrammar | OwnlmError | None:
        with self._keeping:
            if constraint in self._kept:
                self._kept.move_to_end(constraint)
            return self._kept.get(constraint)

    def _keep(self, constraint: Constraint, known: CompiledGrammar | OwnlmError) -> None:
        with self._keeping:
            self._kept[constraint] = known
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)

    def _compile(self, constraint: Constraint) -> CompiledGrammar | OwnlmError:
        """Compiles, or says what is wrong with the constraint."""
        if importlib.util.find_spec("llguidance") is None:
            raise MissingExtra("constrained output", "constrain")
        if self._vocabulary is None:
            self._vocabulary = Vocabulary(self._tokenizer)
        if self._trial is None:
            self._trial = Trial(self._seconds, LIMITS)
        grammar, vocabulary = constraint.grammar(), self._vocabulary
        try:
            self._trial.check(grammar)
            return _on_deep_stack(lambda: CompiledGrammar(grammar, vocabulary))
        except TrialFailed as error:
            return _refusal(constraint, str(error))


class Vocabulary:
    """A tokenizer as llguidance reads it.

    Attributes:
        size: how many ids the model's tokenizer has.
        library: the library's own object.
        first: see TokenBytes.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        import llguidance

        self.size = tokenizer.vocab_size
        self.stop_ids = sorted(tokenizer.stop_ids)
        found = TokenBytes(tokenizer)
        self.first = found.first
        self._plain = tokenizer
        self._middle = found.middle
        self._of_bytes = {text: number for number, text in reversed(list(enumerate(found.middle))) if text}
        self._longest = max(map(len, self._of_bytes), default=0)
        # These attributes are what the library asks of a tokenizer. A model without a token that ends its answers is
        # given one that it cannot say.
        self.tokens = [*found.middle] if self.stop_ids else [*found.middle, b""]
        self.special_token_ids = [number for number, text in enumerate(self.tokens) if not text]
        self.eos_token_id = self.stop_ids[0] if self.stop_ids else self.size
        self.bos_token_id = None
        wrapper = llguidance.TokenizerWrapper(self)
        self.library = llguidance.LLTokenizer(wrapper, eos_token=self.stop_ids or [self.size])

    def __call__(self, text: bytes) -> list[int]:
        """The ids of bytes within a text, as the model would write them where that can be told."""
        try:
            ids = self._plain.encode(text.decode(), special=False)
        except UnicodeDecodeError:
            return self.greedy(text)
        return ids if b"".join(self._middle[number] for number in ids) == text else self.greedy(text)

    def greedy(self, text: bytes) -> list[int]:
        """The longest token that the text begins with, and so on; ends where none does."""
        ids = []
        while text:
            sizes = range(min(self._longest, len(text)), 0, -1)
            size = next((size for size in sizes if text[:size] in self._of_bytes), 0)
            if not size:
                break
            ids.append(self._of_bytes[text[:size]])
            text = text[size:]
        return ids

    def spelled(self, text: bytes) -> list[int] | None:
        """Ids whose bytes are those of ``text``; None where the vocabulary cannot spell it."""
        ids = self.greedy(text)
        return ids if b"".join(self._middle[number] for number in ids) == text else None


class CompiledGrammar:
    """A grammar for a vocabulary, from which each answer gets a matcher of its own.

    Args:
        grammar: as the library reads it.
        vocabulary: of the model.

    Raises:
        TrialFailed: it cannot be compiled.
    """

    def __init__(self, grammar: str, vocabulary: Vocabulary) -> None:
        import llguidance

        self.vocabulary = vocabulary
        limits = llguidance.LLParserLimits(**LIMITS)
        self._begin = llguidance.LLMatcher(vocabulary.library, grammar, log_level=0, limits=limits)
        self.opening = self._begin.compute_bitmask()
        if self._begin.is_error():
            raise TrialFailed(self._begin.get_error())
        # What a token adds at the beginning of a text decides there.
        self.first = {
            number: ids for number, text in vocabulary.first.items() if (ids := vocabulary.spelled(text)) is not None
        }
        if vocabulary.first:
            self.opening = self._with_first_tokens(self.opening)

    def matcher(self, tokens: Sequence[int] = ()) -> Matcher:
        """What follows an answer that has these tokens."""
        matcher = Matcher(self, self._begin.deep_copy())
        for token in tokens:
            matcher.took(token)
        return matcher

    def _with_first_tokens(self, mask: bytes) -> bytes:
        allowed = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")
        for number in self.vocabulary.first:
            ids = self.first.get(number)
            allowed[number] = ids is not None and self._begin.validate_tokens(ids) == len(ids)
        return np.packbits(allowed, bitorder="little").tobytes()


class Matcher:
    """Where one answer stands in its grammar.

    Attributes:
        failure: why no more can be said of it; None as long as all is well.
    """

    def __init__(self, grammar: CompiledGrammar, library: llguidance.LLMatcher) -> None:
        self.failure: UserError | None = None
        self._grammar, self._library = grammar, library
        # How many of the library's tokens each of the answer's is: what the first adds may be spelled with several.
        self._steps: list[int] = []

    @property
    def may_stop(self) -> bool:
        """Whether the text so far is whole."""
        return self._library.is_accepting()

    @property
    def must_stop(self) -> bool:
        """Whether the text so far is whole, and nothing can be added to it."""
        return self.failure is None and self._library.is_stopped()

    def mask(self) -> np.ndarray:
        """Which tokens may come next, those that end an answer among them: [vocab / 8] bytes of a bit each, low first."""
        mask = self._library.compute_bitmask() if self._steps else self._grammar.opening
        if self._library.is_error():
            self._fail()
        return np.frombuffer(mask, np.uint8)[: -(-self._grammar.vocabulary.size // 8)]

    def took(self, token: int) -> None:
        """The answer goes on with a token, which the mask must allow."""
        ids = [token] if self._steps else self._grammar.first.get(token, [token])
        if not self._library.consume_tokens(ids):
            self._fail()
        self._steps.append(len(ids))

    def back(self, count: int) -> None:
        """Takes back the last ``count`` tokens."""
        if count:
            steps = sum(self._steps[-count:])
            del self._steps[-count:]
            if steps and not self._library.rollback(steps):
                self._fail()

    def _fail(self) -> None:
        reason = _plainly(self._library.get_error())
        self.failure = self.failure or UserError(
            f"the constraint cannot be followed any further: {reason}", where="constraint", hint="use a simpler one"
        )


def _on_deep_stack(function: Callable[[], T]) -> T:
    """Runs a function in a thread with a larger stack than a grammar's trial has."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    before = threading.stack_size(STACK_BYTES)
    try:
        thread = threading.Thread(target=run)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _refusal(constraint: Constraint, reason: str) -> UserError:
    unknown = re.search(r"Unimplemented keys: \[(.*)\]", reason)
    if unknown:
        names = ", ".join(f"'{name}'" for name in re.findall(r'"([^"]*)"', unknown[1]))
        return UserError(
            f"this {constraint.name} uses {names}, which cannot be enforced",
            where="constraint",
            hint="leave it out, and check the answer yourself",
        )
    if reason == NOTHING_FITS:
        return UserError(f"no text fits this {constraint.name}", where="constraint")
    return UserError(f"this {constraint.name} cannot be used: {_plainly(reason)}", where="constraint")


def _plainly(reason: str) -> str:
    """The library's words in one line."""
    # A regular expression's error draws a picture of the place, and says last what is wrong.
    found = re.search(r"^error: (.*)$", reason, re.MULTILINE)
    line = found[1] if found else next((line for line in reason.splitlines() if line.strip()), "an unknown reason")
    line = re.sub(r"^at \d+\(\d+\): |^\d+\(\d+\): ", "", line.strip()).rstrip(".")
    line = line[:1].lower() + line[1:]
    return line if len(line) <= 200 else line[:199] + "…"
