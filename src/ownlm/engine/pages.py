"""Who has which page of the cache; plain bookkeeping, with no tensors in it.

A page holds the keys and values of 32 tokens. What a page holds depends on its tokens and on all before them, so a full
page is known by a digest of those: an answer whose prompt begins like an earlier one's takes that one's pages and reads
only the rest. A page that nobody uses keeps what it holds until room is needed; what was used longest ago goes first.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

PAGE = 32


def pages_for(tokens: int) -> int:
    """How many pages so many tokens take."""
    return -(-tokens // PAGE)


def digest_of(before: bytes, tokens: Sequence[int]) -> bytes:
    """What a page of these tokens is known by, after a page known by ``before``."""
    text = before + b"".join(token.to_bytes(4, "little") for token in tokens)
    return hashlib.blake2b(text, digest_size=16).digest()


class PagePool:
    """Pages 1 to ``count``.

    Args:
        count: how many there are.
        keeps: whether full pages are kept for who comes with the same tokens.
    """

    def __init__(self, count: int, keeps: bool = True) -> None:
        self.count, self.keeps = count, keeps
        self._free = list(range(count, 0, -1))
        self._users = [0] * (count + 1)
        self._page_of: dict[bytes, int] = {}
        self._digest_of: dict[int, bytes] = {}
        # Kept and used by nobody, the one to go first at the front.
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        """How many may still be taken."""
        return len(self._free) + len(self._idle)

    @property
    def kept(self) -> int:
        """How many hold something for who comes with the same tokens, in use or not."""
        return len(self._page_of)

    def take(self) -> int | None:
        """A page for one user, or None where all are in use."""
        if self._free:
            page = self._free.pop()
        elif self._idle:
            page, _ = self._idle.popitem(last=False)
            del self._page_of[self._digest_of.pop(page)]
        else:
            return None
        self._users[page] = 1
        return page

    def find(self, digest: bytes) -> int | None:
        """The page that is known by this, for one more user; None where there is none."""
        page = self._page_of.get(digest)
        if page is not None:
            self._idle.pop(page, None)
            self._users[page] += 1
        return page

    def keep(self, page: int, digest: bytes) -> None:
        """A page in use is full and may be found from now on; of two with the same content the first is."""
        assert self._users[page]
        if self.keeps and digest not in self._page_of and page not in self._digest_of:
            self._page_of[digest], self._digest_of[page] = page, digest

    def give_back(self, pages: Sequence[int]) -> None:
        """One user less of each; of a sequence's pages the last will go first, since the others mean nothing less
        without it.
        """
        for page in reversed(pages):
            assert self._users[page] > 0
            self._users[page] -= 1
            if not self._users[page]:
                if page in self._digest_of:
                    self._idle[page] = None
                else:
                    self._free.append(page)
