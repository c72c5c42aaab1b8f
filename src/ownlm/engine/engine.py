"""The engine: many prompts become many answers at once, one step at a time.

A step (scheduler.py) is one pass (decoder.py) over the newest token of every answer and some tokens of prompts; its keys
and values go into pages (pages.py) that answers with the same beginning share. The sampler (sampler.py) turns the last
logits into tokens, and those become text as it gets certain (text.py). While few are answered, tokens are guessed ahead
and read in the same pass (speculation.py).

An answer does not depend on who else is answered, on what the cache held, on how a prompt was cut into pieces, nor on
whether it was thrown out for lack of room and computed again:

- on a CPU that multiplies bfloat16, with the kernels (kernels/): bit for bit, in every kind of weights;
- in float32: a row's result may differ in its last bits with the number of rows beside it, so logits agree to about 1e-6
  of their size, and a greedy answer differs only where two tokens are closer than that;
- in bfloat16 elsewhere, on a GPU too, the last bits of bfloat16 may differ, and with them a token where two are nearly
  equal.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, ModelError, UserError
from ..model.transformer import Transformer
from ..tokens.tokenizer import Tokenizer
from .adapters import Adapter, Adapters, Ready
from .decoder import check_writes, make_decoder
from .draw import Draw
from .grammars import GrammarCompiler
from .pages import PAGE, PagePool
from .prompts import Prompts
from .requests import Answer, Completion, Event, FinishReason, SamplingOptions, State, TokenLogprob
from .sampler import logprobs, looked_over, sample_drafts
from .scheduler import Scheduler, Work, computable, rows_of, shared_tokens
from .speculation import Speculation, make_draft_model
from .text import Detokenizer, TextStream


@dataclass(eq=False)
class _Live:
    """An answer that has not ended, with all that its next token needs."""

    answer: Answer
    draw: Draw
    text: TextStream
    adapter: Ready


class Engine:
    """Generates with a model; not to be called from several threads at once.

    Args:
        model: runs in its ``compute_dtype``, without dropout. Make a new engine when it has been trained further: this
            one may hold its own copy of the weights.
        tokenizer: the model's.
        max_sequences: how many answers are worked on at once; others wait in a queue.
        cache_tokens: the most tokens the cache holds; None is enough for ``max_sequences`` of 2,048, and for one of
            the model's full context.
        prefill_tokens: no more tokens of prompts than that are read in one step.
        shared_prefill_tokens: no more in a step that gives other answers a token, so that a long prompt does not keep
            them waiting. None is 64 on a CPU, and as many as in any step elsewhere.
        prefix_cache: whether what was read stays in the cache, while there is room, for prompts that begin alike.
        weights: how they are kept: as the model computes, or in 8 or 4 bits (packing.py).
        drafts: the most tokens that are guessed ahead of an answer (speculation.py) while few are worked on; 0 is
            never. Answers are the same. None guesses where reading a few rows more costs little: with the kernels.
        draft_model: a smaller model with the same tokenizer, which guesses where the text itself gives no guess.
        adapters: folders of LoRA adapters by name, of which each request may choose one (adapters.py).

    Raises:
        ConfigError: a limit that is too small.
        ModelError: a model has no language-model head, or the tokenizer has tokens that it does not know; an adapter is
            for another model, or cannot run beside others.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        *,
        max_sequences: int = 16,
        cache_tokens: int | None = None,
        prefill_tokens: int = 256,
        shared_prefill_tokens: int | None = None,
        prefix_cache: bool = True,
        weights: str = "auto",
        drafts: int | None = None,
        draft_model: Transformer | None = None,
        adapters: Mapping[str, str | Path] | None = None,
    ) -> None:
        check_writes(model)
        config = model.config
        if cache_tokens is None:
            cache_tokens = max(config.max_positions + PAGE, max_sequences * min(2048, config.max_positions + PAGE))
        limits = [("max_sequences", max_sequences, 1), ("prefill_tokens", prefill_tokens, 1)]
        shared = shared_tokens(shared_prefill_tokens, prefill_tokens, model.device.type)
        limits += [("shared_prefill_tokens", shared, 1)]
        limits += [("drafts", drafts or 0, 0), ("cache_tokens", cache_tokens, 2 * PAGE)]
        for name, value, least in limits:
            if value < least:
                raise ConfigError(f"at least {least} is needed (got {value})", where=name)
        tokenizer.check_fits(config.vocab_size)
        self.config, self.tokenizer = config, tokenizer
        pages = cache_tokens // PAGE
        self.context = min(config.max_positions, pages * PAGE)
        self.device = model.device
        self._prompts = Prompts(tokenizer, self.context, config.max_positions)
        self._decoder = make_decoder(model, weights, pages)
        self._adapters = Adapters(config, self._decoder, adapters or {})
        self._detokenizer = Detokenizer(tokenizer)
        self.grammars = GrammarCompiler(tokenizer)
        self._pool = PagePool(pages, keeps=prefix_cache)
        sizes = {"max_sequences": max_sequences, "prefill_tokens": prefill_tokens, "shared_prefill_tokens": shared}
        self._scheduler = Scheduler(self._pool, **sizes)
        drafter = None
        if draft_model is not None and drafts != 0:
            drafter = make_draft_model(draft_model, tokenizer, weights, pages)
        self._speculation = Speculation(self._scheduler, kind=self._decoder.kind, drafts=drafts, model=drafter)
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
        """How many tokens the cache holds of answers being worked on; what they share counts for each."""
        return sum(answer.cached for answer in self._scheduler.running)

    @property
    def reused_tokens(self) -> int:
        """How many tokens of prompts were found in the cache, and not read again, since the start."""
        return self._scheduler.reused_tokens

    @property
    def preemptions(self) -> int:
        """How often an answer had to give up its room to an older one, since the start."""
        return self._scheduler.preemptions

    @property
    def guessed_tokens(self) -> int:
        """How many tokens were guessed ahead of answers, since the start."""
        return self._speculation.guessed_tokens

    @property
    def right_tokens(self) -> int:
        """How many of them were right."""
        return self._speculation.right_tokens

    @property
    def weights(self) -> str:
        """How the weights are kept: bf16, int8 or int4 by the kernels, else the dtype that the framework computes in."""
        return self._decoder.kind

    @property
    def weight_bytes(self) -> int:
        """How many bytes of weights a step reads: what limits a single answer's speed."""
        return self._decoder.weight_bytes

    def reserve(self) -> None:
        """Takes the cache's memory now, so that it does not grow while answering."""
        self._decoder.reserve()
        self._speculation.reserve()

    @property
    def adapters(self) -> dict[str, str]:
        """The adapters by name, each with the hash of its content."""
        return self._adapters.digests

    def read_adapter(self, folder: str | Path) -> Adapter:
        """Reads an adapter for ``load_adapter``, with its errors; may be called from any thread."""
        return self._adapters.read(Path(folder))

    def load_adapter(self, name: str, adapter: str | Path | Adapter) -> None:
        """Makes an adapter known; one of that name is replaced, and answers under way go on with what they began with.

        Args:
            name: what it is asked for by.
            adapter: its folder, or what was read there.

        Raises:
            ModelError: there is no adapter in the folder, it is for another model, or it cannot run beside others.
        """
        self._adapters.load(name, adapter if isinstance(adapter, Adapter) else self.read_adapter(adapter))

    def unload_adapter(self, name: str) -> None:
        """Forgets an adapter, if there is one of this name (else a UserError); answers under way go on with it."""
        self._adapters.remove(name)

    def submit(
        self, prompt: str | Sequence[int], options: SamplingOptions | None = None, adapter: str | None = None
    ) -> int:
        """Queues a request and returns its id, by which its events are known.

        Args:
            prompt: a text, or ids.
            options: how it is answered.
            adapter: the name of the adapter that answers; None is the model alone.

        Raises:
            UserError: an empty prompt, one that leaves no room in the context, ids that are no tokens, an adapter that
                there is not, or a constraint that cannot be compiled. Where that may take a while,
                ``grammars.compiled`` is called before, in a thread of its own.
        """
        return self._submit(self._prompts.checked(prompt), options or SamplingOptions(), self._adapters.find(adapter))[
            0
        ].request

    def step(self) -> list[Event]:
        """Computes the next tokens; returns the events, none of them only when there is nothing to do or to tell."""
        self._advance()
        events, self._others = self._others, []
        return events

    def abort(self, request: int) -> None:
        """Ends a request at once and frees what it held; no event of it follows. Unknown and ended ones are fine."""
        self._abort({request})

    def stream(
        self, prompt: str | Sequence[int], options: SamplingOptions | None = None, adapter: str | None = None
    ) -> Iterator[Event]:
        """The events of one request as they come; leaving the loop early aborts it.

        Raises:
            UserError: as ``submit``, before the first event.
        """
        return self._stream(self._prompts.checked(prompt), options or SamplingOptions(), self._adapters.find(adapter))

    def generate(
        self,
        prompts: Sequence[str | Sequence[int]],
        options: SamplingOptions | None = None,
        adapter: str | None = None,
    ) -> list[Completion]:
        """The answers to all prompts, in their order, ``n`` to each.

        Raises:
            UserError: as ``submit``, for any prompt and before anything runs.
        """
        if isinstance(prompts, str):
            raise UserError("a list of prompts was expected, and this is one text", hint="write [prompt]")
        options, ready = options or SamplingOptions(), self._adapters.find(adapter)
        checked = [self._prompts.checked(prompt, f"prompt {number}") for number, prompt in enumerate(prompts, 1)]
        answers = [answer for prompt in checked for answer in self._submit(prompt, options, ready)]
        events: dict[tuple[int, int], list[Event]] = {(answer.request, answer.index): [] for answer in answers}
        for event in self._watch(answers):
            if event.error is not None:
                raise event.error
            events[event.request, event.index].append(event)
        return [Completion.of(answer, events[answer.request, answer.index], options) for answer in answers]

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        options: SamplingOptions | None = None,
        adapter: str | None = None,
    ) -> Completion:
        """The assistant's next message in a conversation.

        Raises:
            UserError: the conversation does not fit the context, or the chat template refuses it.
        """
        prompt = self.tokenizer.render(list(messages), add_generation_prompt=True)
        one = SamplingOptions(**{**dict(options or SamplingOptions()), "n": 1})
        return self.generate([prompt], one, adapter)[0]

    def encode(self, text: str) -> list[int]:
        """A text prompt's ids; it begins with the token that the model expects at a document's start."""
        return self._prompts.encode(text)

    def _submit(self, prompt: tuple[int, ...], options: SamplingOptions, adapter: Ready) -> list[Answer]:
        self._prompts.check_tokens(options)
        grammar = None if options.constraint is None else self.grammars.compiled(options.constraint)
        request = next(self._ids)
        limit = min(options.max_tokens, self.context - len(prompt))
        seed = options.seed
        if seed is None and options.temperature > 0:
            seed = secrets.randbits(32)
        namespace = adapter.namespace
        answers = [Answer(request, index, prompt, limit, seed, namespace) for index in range(options.n)]
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
            self._live[answer] = _Live(answer, draw, text, adapter)
            self._speculation.begin(answer, draw)
            self._scheduler.add(answer)
        return answers

    def _stream(self, prompt: tuple[int, ...], options: SamplingOptions, adapter: Ready) -> Iterator[Event]:
        # Submitted with the first event, so that a stream nobody reads computes nothing.
        yield from self._watch(self._submit(prompt, options, adapter))

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
        for event in self._run(self._speculation.guessed(self._scheduler.plan())):
            self._inboxes.get(event.request, self._others).append(event)

    def _run(self, work: Sequence[Work]) -> list[Event]:
        """One pass and what comes of it; whoever it fails for fails, and the engine lives on."""
        events: list[Event] = []
        if not work:
            return events
        try:
            logits = self._forward(work)
        except Exception as error:
            # Each by itself: perhaps it is only one that cannot be computed.
            if len(work) > 1:
                return [event for part in work for event in self._run([part])]
            return [self._fail(self._live[work[0].answer], error)]
        for part in work:
            self._scheduler.done(part)
        speaking = [part for part in work if part.speaks]
        if speaking:
            try:
                self._continue(speaking, logits, events)
            except Exception as error:
                left = [self._live[part.answer] for part in speaking if not part.answer.ended]
                events.extend(self._fail(live, error) for live in left)
        return events

    def _forward(self, work: Sequence[Work]) -> Tensor:
        """The logits after the last token of each answer that speaks, and after each of its draft: [rows, vocab]."""
        adapters = [self._live[part.answer].adapter.prepared for part in work]
        logits = self._decoder(*rows_of(work), adapters if any(adapters) else ())
        # A model's vocabulary may be padded; what the tokenizer does not know cannot be said.
        return logits[:, : self.tokenizer.vocab_size]

    @torch.inference_mode()
    def _continue(self, work: Sequence[Work], logits: Tensor, events: list[Event]) -> None:
        """Draws the next tokens of each answer; logits: those of each, and of its draft, in order."""
        finite, likeliest = looked_over(logits)
        if not all(finite):
            error = ModelError("the model gave no finite logits", hint="its weights may be damaged, or overflow")
            work, rows, failed = computable(work, finite)
            events.extend(self._fail(self._live[part.answer], error) for part in failed)
            logits = logits[rows]
            likeliest = None if likeliest is None else [likeliest[row] for row in rows]
        if not work:
            return
        lives = [self._live[part.answer] for part in work]
        taken = sample_drafts(logits, [live.draw for live in lives], [part.draft for part in work], likeliest)
        starts = itertools.accumulate((1 + len(part.draft) for part in work), initial=0)
        rows = [start + step for start, tokens in zip(starts, taken, strict=False) for step in range(len(tokens))]
        tops = [live.draw.options.logprobs for live, tokens in zip(lives, taken, strict=True) for _ in tokens]
        likely = iter(
            logprobs(
                logits if len(rows) == len(logits) else logits[rows], [t for tokens in taken for t in tokens], tops
            )
        )
        for part, live, tokens in zip(work, lives, taken, strict=True):
            self._speculation.judged(part, tokens)
            for token, logprob in zip(tokens, itertools.islice(likely, len(tokens)), strict=True):
                if not live.answer.ended:
                    events.append(self._take(live, token, logprob))
            if not live.answer.ended:
                self._scheduler.done(part, part.end + len(tokens) - 1)

    def _take(self, live: _Live, token: int, logprob: TokenLogprob | None) -> Event:
        """The answer goes on with a token, or ends."""
        answer = live.answer
        reason: FinishReason | None = None
        if live.draw.failure is not None:
            return self._fail(live, live.draw.failure)
        if token in live.draw.stop_ids:
            self._end(live, State.FINISHED)
            return Event(
                answer.request, answer.index, live.text.finish(), finish_reason="stop", reused=answer.reused or 0
            )
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
        return Event(answer.request, answer.index, text, token, logprob, reason, reused=answer.reused or 0)

    def _fail(self, live: _Live, error: Exception) -> Event:
        self._end(live, State.FAILED)
        return Event(live.answer.request, live.answer.index, finish_reason="error", error=error)

    def _end(self, live: _Live, state: State) -> None:
        """An answer's end, whatever the reason: frees its place in the cache and in the schedule."""
        live.answer.move(state)
        self._scheduler.remove(live.answer)
        self._speculation.end(live.answer)
        del self._live[live.answer]
