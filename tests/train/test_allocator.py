"""Tensors in memory of our own: nothing overlaps, holes are joined, a limit is an error, and threads and forks are safe."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm import native
from ownlm.devices import resident_bytes
from ownlm.train import allocator as own

MEGABYTE = 2**20
needs_compiler = pytest.mark.skipif(own.allocator_library() is None, reason="no compiler is installed")

# Sizes below and above what goes into the row, whole steps and not.
sizes = st.sampled_from([1, 1000, 2**18 - 1, 2**18, 2**18 + 1, 300_000, 2**20, 3_000_001, 5 * 2**20])
moves = st.lists(st.tuples(st.booleans(), sizes, st.integers(0, 50)), max_size=60)


@pytest.fixture
def row() -> own.Allocator:
    found = own.allocator()
    assert found is not None
    return found


def in_the_row(size: int) -> int:
    """What a block of so many bytes takes of the row."""
    return -(-size // 2**16) * 2**16 if size >= 2**18 else 0


@needs_compiler
@settings(deadline=None, max_examples=60)
@given(moves)
def test_every_tensor_keeps_what_was_written_to_it(moves: list[tuple[bool, int, int]]) -> None:
    """Against the simplest account: each block's own bytes, and the sum of those that are alive."""
    row = own.allocator()
    assert row is not None
    before, alive = row.held, []
    for number, (takes, size, which) in enumerate(moves):
        if takes or not alive:
            tensor = torch.empty(size, dtype=torch.uint8)
            assert tensor.data_ptr() % 64 == 0
            alive.append((tensor.fill_(number % 251), number % 251))
        else:
            tensor, value = alive.pop(which % len(alive))
            assert bool((tensor == value).all())
            del tensor
        assert row.held - before == sum(in_the_row(len(tensor)) for tensor, _ in alive)
    assert all(bool((tensor == value).all()) for tensor, value in alive)


@needs_compiler
def test_what_is_free_side_by_side_is_one_hole(row: own.Allocator) -> None:
    blocks = [torch.empty(MEGABYTE, dtype=torch.uint8) for _ in range(32)]
    length = row.length
    # Every other one first, so that each of the rest joins two holes.
    for first in (0, 1):
        for place in range(first, 32, 2):
            blocks[place] = torch.empty(0)
    whole = torch.empty(32 * MEGABYTE, dtype=torch.uint8)
    assert len(whole) and row.length <= length


@needs_compiler
def test_a_training_steps_holes_are_few(row: own.Allocator) -> None:
    """Sizes of a small model's step, ten times: the row is hardly longer than the most that was in it."""
    draw = torch.Generator().manual_seed(0)
    for _ in range(10):
        kept = [torch.empty(int(n), dtype=torch.uint8) for n in torch.randint(2**18, 2**22, (40,), generator=draw)]
        gradients = []
        while kept:
            kept.pop()
            gradients.append(torch.empty(2**20, dtype=torch.uint8))
        del gradients
    assert row.length <= 1.15 * row.most


@needs_compiler
def test_threads_do_not_meet(row: own.Allocator) -> None:
    before, failed = row.held, []

    def work(value: int) -> None:
        for turn in range(200):
            tensor = torch.full((2**18 + 4096 * (turn % 7),), value, dtype=torch.uint8)
            if not bool((tensor == value).all()):
                failed.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and row.held == before


@needs_compiler
def test_a_freed_hole_can_be_given_back(row: own.Allocator) -> None:
    tensor = torch.ones(64 * MEGABYTE, dtype=torch.uint8)
    del tensor
    held = resident_bytes()
    row.release()
    assert resident_bytes() < held - 48 * MEGABYTE
    assert bool((torch.zeros(64 * MEGABYTE, dtype=torch.uint8) == 0).all())


@needs_compiler
def test_profilers_see_what_is_taken_and_given(row: own.Allocator) -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        tensor = torch.empty(MEGABYTE, dtype=torch.uint8)
        del tensor
    events = [e.nbytes() for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    assert events == [MEGABYTE, -MEGABYTE]


def program(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, in which nothing is installed yet."""
    lines = "import os, resource, torch\nfrom ownlm.train import allocator as own\n" + text
    given = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, env=given, check=False)


@needs_compiler
def test_beyond_the_limit_is_an_error_and_the_process_goes_on() -> None:
    done = program(
        "own.available_memory_bytes = lambda: 100 * 2**20\n"
        "row = own.allocator()\n"
        "held = torch.ones(60 * 2**20, dtype=torch.uint8)\n"
        "try:\n    torch.ones(60 * 2**20, dtype=torch.uint8)\n"
        "except RuntimeError as error:\n    print(error)\n"
        "del held\nprint(len(torch.ones(60 * 2**20, dtype=torch.uint8)))\n"
    )
    said, size = done.stdout.strip().split("\n")[0], done.stdout.strip().split("\n")[-1]
    assert "can't allocate memory" in said and "62914560 bytes were asked for" in said and size == str(60 * 2**20)


@needs_compiler
def test_a_process_that_may_have_little_reserves_less_or_nothing() -> None:
    text = (
        "used = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + {more} * 2**20, resource.RLIM_INFINITY))\n"
        "print(own.allocator() is not None, torch.ones(2**20).sum().item())"
    )
    assert program(text.format(more=1024)).stdout.split() == ["True", "1048576.0"]
    assert program(text.format(more=200)).stdout.split() == ["False", "1048576.0"]


@needs_compiler
def test_a_forked_process_has_its_own_copy_and_no_lock_that_another_held() -> None:
    done = program(
        "import threading\n"
        "own.allocator()\n"
        "kept = torch.full((2**20,), 7.0)\n"
        "stop = threading.Event()\n"
        "def churn():\n    while not stop.is_set(): torch.empty(2**20)\n"
        "threading.Thread(target=churn).start()\n"
        "codes = []\n"
        "for _ in range(20):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        os._exit(0 if kept.sum().item() == 7 * 2**20 and torch.zeros(2**20)[0].item() == 0 else 1)\n"
        "    codes.append(os.waitpid(child, 0)[1])\n"
        "stop.set()\nprint(codes)\n",
        OMP_NUM_THREADS="1",
    )
    assert done.stdout.strip() == str([0] * 20), done.stderr


def test_switched_off_the_system_allocates() -> None:
    done = program("print(own.allocator(), torch.ones(2**20).sum().item())", **{native.SWITCH: "off"})
    assert done.stdout.split() == ["None", "1048576.0"]


@needs_compiler
def test_without_a_compiler_one_line_says_so(tmp_path: object) -> None:
    done = program("print(own.allocator())", OWNLM_HOME=str(tmp_path), CXX="/nowhere/g++")
    assert done.stdout.strip() == "None" and "no C++ compiler" in done.stderr and done.stderr.count("\n") == 1
