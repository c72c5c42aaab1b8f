"""The engine: many prompts become many answers at once, one step at a time.

A step (scheduler.py) runs a few forward passes (runner.py): one for the sequences that decode, one for each part of a
prompt. The cache (cache.py) is what each pass attends over, the sampler (sampler.py) turns the last logits into tokens,
and those become text as it gets certain (text.py).

An answer does not depend on who else is answered. Everything but the products with the weights is computed row by row
or sequence by sequence; of those products it holds:

- float32: a row's result may differ in its last bits with the number of rows beside it, so logits agree to about 1e-6
  of their size, and a greedy answer differs only where two tokens are closer than that;
- bfloat16 on a CPU with AMX: the same bits for up to 32 rows, which is how many decode in one pass, and a prompt is
  read by itself, in pieces cut at the same places, so answers are the same bit for bit. With other sizes of
  ``prefill_tokens``, on other CPUs and on a GPU, the last bits of bfloat16 may differ, and with them a token where two
  are nearly equal.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, ModelError, UserError
from ..model.transformer import Transformer
from ..tokens.tokenizer import Tokenizer
from .cache import SMALLEST, KVCache, Row, room_for
from .draw import Draw
from .grammars import CompiledGrammar, GrammarCompiler
from .requests import Answer, Completion, Event, FinishReason, SamplingOptions, State, TokenLogprob
from .runner import Runner
from .sampler import logprobs, sample
from .scheduler import Scheduler
from .text import Detokenizer, TextStream

# Sequences that decode in one pass on a CPU. Up to here bfloat16 products give each row the same bits however many
# rows there are (measured: AMX, oneDNN of torch 2.13), and the weights are read once for all of them anyway.
CPU_ROWS = 32


@dataclass(eq=False)
class _Live:
    """An answer that has not ended, with all that its next token needs."""

    answer: Answer
    draw: Draw
    text: TextStream
    row: Row | None = None


@dataclass
class _Work:
    """New tokens of one sequence in one pass; ``speaks`` if they are its last so far, so that a token follows."""

    live: _Live
    tokens: Sequence[int]
    speaks: bool = True


class Engine:
    """Generates with a model; not to be called from several threads at once.

    Args:
        model: runs in its ``compute_dtype``, without dropout. Make a new engine when it has been trained further: this
            one may hold its own copy of the weights (runner.py).
        tokenizer: the model's.
        max_sequences: how many answers are worked on at once; others wait in a queue.
        cache_tokens: the most tokens the cache holds; None is enough for ``max_sequences`` of 2,048, and for one of
            the model's full context.
        prefill_tokens: prompts are read in pieces of so many tokens, and no more than that in one step, so that a
            long prompt does not keep the others waiting.

    Raises:
        ConfigError: a limit that is too small.
        ModelError: the model has no language-model head, or the tokenizer has tokens that it does not know.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        *,
        max_sequences: int = 16,
        cache_tokens: int | None = None,
        prefill_tokens: int = 256,
    ) -> None:
        config = model.config
        if config.head == "seq2seq":
            raise ModelError(
                "this model makes a text from another, and goes on from none",
                where=None if model.source is None else str(model.source),
                hint="use 'ownlm predict'",
            )
        if config.head != "lm":
            raise ModelError(
                f"this model writes no text: it is a {config.family} model with the head '{config.head}'",
                where=None if model.source is None else str(model.source),
                hint="a model that generates has a language-model head, such as gpt2 or llama",
            )
        if cache_tokens is None:
            cache_tokens = max(room_for(config.max_positions), max_sequences * 2048)
        limits = [("max_sequences", max_sequences, 1), ("prefill_tokens", prefill_tokens, 1)]
        for name, value, least in [*limits, ("cache_tokens", cache_tokens, SMALLEST)]:
            if value < least:
                raise ConfigError(f"at least {least} is needed (got {value})", where=name)
        tokenizer.check_fits(config.vocab_size)
        self.config, self.tokenizer = config, tokenizer
        # Half the next power of two is the largest slot that fits a budget smaller than the model's context.
        self.context = min(config.max_positions, room_for(cache_tokens + 1) // 2)
        self._runner = Runner(model)
        self._detokenizer = Detokenizer(tokenizer)
        self.grammars = GrammarCompiler(tokenizer)
        self._cache = KVCache(config, model.compute_dtype, model.device)
        self._scheduler = Scheduler(
            max_sequences=max_sequences, cache_tokens=cache_tokens, prefill_tokens=prefill_tokens, room_for=room_for
        )
        self._rows = CPU_ROWS if model.device.type == "cpu" else max_sequences
        self._ids = itertools.count()
        self._live: dict[Answer, _Live] = {}
        # Events not handed out yet: of requests that stream() or generate() watches, and those that step() returns.
        self._inboxes: dict[int, list[Event]] = {}
        self._others: list[Event] = []

    @property
    def waiting(self) -> int:
        """How many answers wait in the queue."""
        return len(self._scheduler.waiting)

    @property
    def running(self) -> int:
        """How many answers are being worked on."""
        return len(self._scheduler.running)

    @property
    def cached_tokens(self) -> int:
        """How many tokens the cache holds."""
        return self._cache.tokens

    def submit(self, prompt: str | Sequence[int], options: SamplingOptions | None = None) -> int:
        """Queues a request and returns its id, by which its events are known.

        Raises:
            UserError: an empty prompt, one that leaves no room in the context, ids that are no tokens, or a constraint
                that cannot be compiled. Where that may take a while, ``grammars.compiled`` is called before, in a
                thread of its own.
        """
        return self._submit(self._prompt(prompt), options or SamplingOptions())[0].request

    def step(self) -> list[Event]:
        """Computes the next tokens; returns the events, none of them only when there is nothing to do or to tell."""
        self._advance()
        events, self._others = self._others, []
        return events

    def abort(self, request: int) -> None:
        """Ends a request at once and frees what it held; no event of it follows. Unknown and ended ones are fine."""
        self._abort({request})

    def stream(self, prompt: str | Sequence[int], options: SamplingOptions | None = None) -> Iterator[Event]:
        """The events of one request as they come; leaving the loop early aborts it.

        Raises:
            UserError: as ``submit``, before the first event.
        """
        return self._stream(self._prompt(prompt), options or SamplingOptions())

    def generate(
        self, prompts: Sequence[str | Sequence[int]], options: SamplingOptions | None = None
    ) -> list[Completion]:
        """The answers to all prompts, in their order, ``n`` to each.

        Raises:
            UserError: as ``submit``, for any prompt and before anything runs.
        """
        if isinstance(prompts, str):
            raise UserError("a list of prompts was expected, and this is one text", hint="write [prompt]")
        options = options or SamplingOptions()
        checked = [self._prompt(prompt, f"prompt {number}") for number, prompt in enumerate(prompts, 1)]
        answers = [answer for prompt in checked for answer in self._submit(prompt, options)]
        events: dict[tuple[int, int], list[Event]] = {(answer.request, answer.index): [] for answer in answers}
        for event in self._watch(answers):
            if event.error is not None:
                raise event.error
            events[event.request, event.index].append(event)
        return [_completion(answer, events[answer.request, answer.index], options) for answer in answers]

    def chat(self, messages: Sequence[Mapping[str, Any]], options: SamplingOptions | None = None) -> Completion:
        """The assistant's next message in a conversation.

        Raises:
            UserError: the conversation does not fit the context, or the chat template refuses it.
        """
        prompt = self.tokenizer.render(list(messages), add_generation_prompt=True)
        one = SamplingOptions(**{**dict(options or SamplingOptions()), "n": 1})
        return self.generate([prompt], one)[0]

    def _prompt(self, prompt: str | Sequence[int], where: str = "prompt") -> tuple[int, ...]:
        """The prompt's ids, checked; a text begins with the token that the model expects at a document's start."""
        ids = tuple(self.encode(prompt) if isinstance(prompt, str) else prompt)
        if not ids:
            raise UserError("the prompt is empty", where=where, hint="give at least one token")
        if len(ids) >= self.context:
            limit = "the model's context" if self.context == self.config.max_positions else "the cache"
            raise UserError(
                f"the prompt has {len(ids):,} tokens, and {limit} has room for {self.context:,} with the answer",
                where=where,
                hint="shorten the prompt",
            )
        vocab = self.tokenizer.vocab_size
        if wrong := [i for i in ids if not 0 <= i < vocab]:
            raise UserError(f"{wrong[0]} is not a token: the vocabulary has {vocab:,}", where=where)
        return ids

    def encode(self, text: str) -> list[int]:
        """A text prompt's ids; it begins with the token that the model expects at a document's start."""
        tokenizer = self.tokenizer
        ids = tokenizer.encode(text)
        # An empty text has nothing to go on from but a document's start; GPT-2 marks that by its only special token.
        start = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
        if start is None or (ids and (not tokenizer.adds_bos or ids[0] == start)):
            return ids
        return [start, *ids]

    def _submit(self, prompt: tuple[int, ...], options: SamplingOptions) -> list[Answer]:
        grammar = self._grammar(options)
        request = next(self._ids)
        limit = min(options.max_tokens, self.context - len(prompt))
        seed = options.seed
        if seed is None and options.temperature > 0:
            seed = secrets.randbits(32)
        answers = [Answer(request, index, prompt, limit, seed) for index in range(options.n)]
        for answer in answers:
            draw = Draw(
                options,
                seed=seed,
                prompt=prompt,
                index=answer.index,
                stop_ids=self.tokenizer.stop_ids,
                grammar=grammar,
            )
            text = TextStream(self._detokenizer, options.stop, unsearched=options.min_tokens)
            self._live[answer] = _Live(answer, draw, text)
            self._scheduler.add(answer)
        return answers

    def _grammar(self, options: SamplingOptions) -> CompiledGrammar | None:
        """The options' constraint, compiled; also checks what they say of tokens by their ids."""
        vocab = self.tokenizer.vocab_size
        biased = [token for token, _ in options.logit_bias]
        for name, ids in (("logit_bias", biased), ("stop_token_ids", options.stop_token_ids)):
            if wrong := [token for token in ids if token >= vocab]:
                raise UserError(f"{wrong[0]} is not a token: the vocabulary has {vocab:,}", where=name)
        return None if options.constraint is None else self.grammars.compiled(options.constraint)

    def _stream(self, prompt: tuple[int, ...], options: SamplingOptions) -> Iterator[Event]:
        # Submitted with the first event, so that a stream nobody reads computes nothing.
        yield from self._watch(self._submit(prompt, options))

    def _watch(self, answers: Sequence[Answer]) -> Iterator[Event]:
        """The events of these answers until all have ended; aborts what is left if nobody wants them any more."""
        requests = {answer.request for answer in answers}
        unended = list(answers)
        inbox: list[Event] = []
        self._inboxes |= dict.fromkeys(requests, inbox)
        try:
            while True:
                while inbox:
                    yield inbox.pop(0)
                while unended and unended[-1].ended:
                    unended.pop()
                if not unended:
                    return
                self._advance()
        finally:
            self._abort(requests)
            for request in requests:
                del self._inboxes[request]

    def _abort(self, requests: Set[int]) -> None:
        for live in [live for live in self._live.values() if live.answer.request in requests]:
            self._end(live, State.ABORTED)
        for unread in [self._others, *(self._inboxes[request] for request in requests & self._inboxes.keys())]:
            unread[:] = [event for event in unread if event.request not in requests]

    def _advance(self) -> None:
        """One step; hands its events to whoever waits for them."""
        plan = self._scheduler.plan()
        decode = [_Work(live := self._live[answer], live.answer.tokens[-1:]) for answer in plan.decode]
        decode.sort(key=lambda work: _place(work.live))
        passes = [decode[start : start + self._rows] for start in range(0, len(decode), self._rows)]
        # Each part of a prompt is a pass of its own: what it gives then does not depend on other prompts' lengths.
        for chunk in plan.prefill:
            part = chunk.answer.prompt[chunk.start : chunk.end]
            passes.append([_Work(self._live[chunk.answer], part, chunk.is_last)])
        for work in passes:
            for event in self._run(work):
                self._inboxes.get(event.request, self._others).append(event)

    def _run(self, work: Sequence[_Work]) -> list[Event]:
        """One forward pass and what comes of it; if it fails, so do its answers, and the engine lives on."""
        events: list[Event] = []
        try:
            logits = self._forward(work)
            speaking = [part.live for part in work if part.speaks]
            if speaking:
                self._continue(speaking, logits, events)
        except Exception as error:
            events.extend(self._fail(part.live, error) for part in work if not part.live.answer.ended)
        return events

    @torch.inference_mode()
    def _forward(self, work: Sequence[_Work]) -> Tensor:
        """The logits after the last token of each sequence that speaks: [sequences, vocab] float32."""
        device = self._runner.device
        rows: list[tuple[Row, int]] = []
        positions: list[int] = []
        for part in work:
            live = part.live
            if live.row is None:
                live.row = self._cache.open(len(live.answer.prompt))
            positions.extend(range(live.row.length, live.row.length + len(part.tokens)))
            rows.append((live.row, len(part.tokens)))
            if live.answer.state is State.PREFILL:
                live.answer.prefilled += len(part.tokens)
        tokens = torch.tensor([token for part in work for token in part.tokens], device=device)
        context = self._cache.begin(rows)
        hidden = self._runner(tokens, torch.tensor(positions, device=device), context)
        ends = itertools.accumulate(len(part.tokens) for part in work)
        last = [end - 1 for part, end in zip(work, ends, strict=True) if part.speaks]
        # A model's vocabulary may be padded; what the tokenizer does not know cannot be said.
        return self._runner.logits_of(hidden[last])[:, : self.tokenizer.vocab_size]

    @torch.inference_mode()
    def _continue(self, lives: Sequence[_Live], logits: Tensor, events: list[Event]) -> None:
        """Draws the next token of each answer; logits: [answers, vocab]."""
        finite = logits.amax(-1).isfinite().tolist()
        if not all(finite):
            error = ModelError("the model gave no finite logits", hint="its weights may be damaged, or overflow")
            events.extend(self._fail(live, error) for live, fine in zip(lives, finite, strict=True) if not fine)
            lives = [live for live, fine in zip(lives, finite, strict=True) if fine]
            logits = logits[torch.tensor(finite, device=logits.device)]
        if lives:
            tokens = sample(logits, [live.draw for live in lives])
            likely = logprobs(logits, tokens, [live.draw.options.logprobs for live in lives])
            for live, token, logprob in zip(lives, tokens, likely, strict=True):
                events.append(self._take(live, token, logprob))

    def _take(self, live: _Live, token: int, logprob: TokenLogprob | None) -> Event:
        """The answer goes on with a token, or ends."""
        answer = live.answer
        reason: FinishReason | None = None
        if live.draw.failure is not None:
            return self._fail(live, live.draw.failure)
        if token in live.draw.stop_ids:
            self._end(live, State.FINISHED)
            return Event(answer.request, answer.index, live.text.finish(), finish_reason="stop")
        answer.tokens.append(token)
        live.draw.took(token)
        text = live.text.push(token)
        if not live.text.stopped and (live.draw.finished or len(answer.tokens) == answer.limit):
            text += live.text.finish()
            reason = "stop" if live.draw.finished else "length"
        if live.text.stopped:
            reason = "stop"
        if reason:
            self._end(live, State.FINISHED)
        elif answer.state is State.PREFILL:
            answer.move(State.DECODE)
        return Event(answer.request, answer.index, text, token, logprob, reason)

    def _fail(self, live: _Live, error: Exception) -> Event:
        self._end(live, State.FAILED)
        return Event(live.answer.request, live.answer.index, finish_reason="error", error=error)

    @torch.inference_mode()
    def _end(self, live: _Live, state: State) -> None:
        """An answer's end, whatever the reason: frees its place in the cache and in the schedule."""
        live.answer.move(state)
        self._scheduler.remove(live.answer)
        del self._live[live.answer]
        if live.row is not None:
            self._cache.close(live.row)
            live.row = None


def _place(live: _Live) -> tuple[int, int]:
    """Where in the cache: sequences that stand side by side there should do so in a pass."""
    assert live.row is not None
    return live.row.shelf.capacity, live.row.slot


def _completion(answer: Answer, events: Sequence[Event], options: SamplingOptions) -> Completion:
    reason = events[-1].finish_reason
    assert reason is not None
    return Completion(
        text="".join(event.text for event in events),
        tokens=tuple(answer.tokens),
        finish_reason=reason,
        prompt_tokens=len(answer.prompt),
        index=answer.index,
        seed=answer.seed,
        logprobs=tuple(e.logprob for e in events if e.logprob) if options.logprobs is not None else None,
    )
