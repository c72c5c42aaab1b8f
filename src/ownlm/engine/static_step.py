"""A decoding pass whose shapes depend on nothing but how many rows it has, so that it can be recorded and replayed.

    one copy to the device      feed [3 + pages, rows]: token | position | length | pages, a column a sequence
    on the device, recorded     where keys and values go -> embedding, all layers (paged_attention.py), final norm
    after that                  the head, of the rows that are there

Rows are filled up to a few numbers; those that are nobody's have length 0. The head is no part of what is recorded: each
recording keeps its output, and logits of every number of rows would take far more memory than launching one product after
a recorded pass takes time, during which the device is busy anyway.
"""

from __future__ import annotations

import bisect
import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from .graphs import CudaRecorder, Recorder
from .packed_model import PackedModel
from .paged_attention import PagedAttention, PagedRows, kernel_for
from .pages import PAGE, pages_for

# How many rows a pass has; more sequences take several passes.
ROWS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
# Where rows that are nobody's write: into page 0, which is nobody's, but not its first slot, which stays zero.
NOBODYS_SLOT = 1
# The first rows of a feed.
TOKEN, POSITION, LENGTH, PAGES = range(4)

log = logging.getLogger(__name__)


class StaticSteps:
    """Decoding passes by their number of rows, each made, and recorded, when it is first needed.

    Args:
        model: that runs; adapters that its passes have are computed, but never recorded.
        keys: of all layers: [layers, kv_heads, slots, head_width].
        values: alike.
        attention: that computes over pages.
        recorder: that records passes; None computes each anew.
    """

    def __init__(
        self, model: PackedModel, keys: Tensor, values: Tensor, attention: PagedAttention, recorder: Recorder | None
    ) -> None:
        self._model, self._keys, self._values = model, keys, values
        self._attention, self._recorder = attention, recorder
        self._pages = min(keys.shape[2] // PAGE - 1, pages_for(model.config.max_positions))
        self._feeds: dict[int, _Feed] = {}
        self._recorded: dict[int, Callable[[], Tensor]] = {}

    @property
    def most_rows(self) -> int:
        """The most sequences of one pass."""
        return ROWS[-1]

    def __call__(
        self, tokens: Sequence[int], positions: Sequence[int], pages: Sequence[Sequence[int]], adapted: bool = False
    ) -> Tensor:
        """One new token of each sequence; its keys and values go into the pages.

        Args:
            tokens: the new token of each sequence.
            positions: its position.
            pages: the sequence's, in order, up to that token at least.
            adapted: whether the model was told of adapters for this pass.

        Returns:
            [sequences, width], the last norm's output; the next pass may write into the same memory.
        """
        rows = ROWS[bisect.bisect_left(ROWS, len(tokens))]
        device = self._keys.device
        # Kernels are launched, and events recorded, on the thread's own device.
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            if rows not in self._feeds:
                self._feeds[rows] = _Feed(rows, self._pages, device)
            feed = self._feeds[rows]
            feed.fill(tokens, positions, pages)
            run: Callable[[], Tensor] = partial(self._run, feed.tensor)
            if not adapted:
                if rows not in self._recorded and self._recorder is not None:
                    self._record(rows, run)
                run = self._recorded.get(rows, run)
            return run()[: len(tokens)]

    def _run(self, feed: Tensor) -> Tensor:
        """What is recorded; feed: [3 + pages, rows] -> [rows, width]."""
        tokens, positions, lengths, table = feed[TOKEN], feed[POSITION], feed[LENGTH], feed[PAGES:]
        page = table.gather(0, (positions // PAGE).unsqueeze(0)).squeeze(0)
        slots = (page * PAGE + positions % PAGE).masked_fill(lengths == 0, NOBODYS_SLOT)
        context = PagedRows(self._keys, self._values, slots, table, lengths, self._attention)
        return self._model(tokens, positions, context)

    def _record(self, rows: int, run: Callable[[], Tensor]) -> None:
        assert self._recorder is not None
        try:
            self._recorded[rows] = self._recorder.record(run)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            # The same pass runs without; its kernels are then launched one by one.
            log.exception("decoding passes cannot be recorded on this device, so they are slower")
            self._recorder = None


def static_steps(model: PackedModel, keys: Tensor, values: Tensor) -> StaticSteps | None:
    """The passes where they pay and can run: on CUDA, with the kernel; arguments as ``StaticSteps``."""
    attention = kernel_for(keys.device)
    if attention is None:
        return None
    return StaticSteps(model, keys, values, attention, CudaRecorder(keys.device))


class _Feed:
    """What differs from step to step, in memory that stays where it is.

    Args:
        rows: of the pass.
        pages: the most that a sequence has.
        device: of the pass.
    """

    def __init__(self, rows: int, pages: int, device: torch.device) -> None:
        shape = (PAGES + pages, rows)
        self.tensor = torch.zeros(shape, dtype=torch.int64, device=device)
        self._on_cuda = device.type == "cuda"
        # Pinned, so that the copy needs no other one and nobody waits for it.
        self._host = torch.zeros(shape, dtype=torch.int64, pin_memory=self._on_cuda)
        self._numbers = self._host.numpy()
        self._known: list[list[int]] = [[] for _ in range(rows)]
        self._sent = torch.cuda.Event() if self._on_cuda else None

    def fill(self, tokens: Sequence[int], positions: Sequence[int], pages: Sequence[Sequence[int]]) -> None:
        """Brings the step's to the device; rows after them are nobody's."""
        if self._sent is not None:
            # The copy before may not have been made yet, and reads the same memory.
            self._sent.synchronize()
        count, most = len(tokens), 0
        self._numbers[TOKEN, :count], self._numbers[POSITION, :count] = tokens, positions
        self._numbers[LENGTH, :count] = self._numbers[POSITION, :count] + 1
        self._numbers[:PAGES, count:] = 0
        for row, (own, position) in enumerate(zip(pages, positions, strict=True)):
            used = position // PAGE + 1
            most = max(most, used)
            # Most sequences have the pages that they had in the step before.
            if self._known[row] != (needed := list(own[:used])):
                self._numbers[PAGES : PAGES + used, row] = needed
                self._known[row] = needed
        # The rest of the table is read by nobody.
        lines = PAGES + most
        self.tensor[:lines].copy_(self._host[:lines], non_blocking=True)
        if self._sent is not None:
            self._sent.record()
