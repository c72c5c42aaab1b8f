"""Watching: real processes over a real store, signals, restarts, and what a look costs when nothing changed."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from ownlm.cli.watch import _text, duration
from ownlm.errors import OwnlmError, UserError
from ownlm.store import Store
from ownlm.watch import loop
from ownlm.watch.history import Asked
from ownlm.watch.look import Look, Watched, look
from ownlm.watch.loop import seconds_left
from ownlm.watch.webhook import check_webhook, post

from .conftest import put_model

WATCH = ("watch", "mine", "--task", "words.yaml", "--store", "store.db")
Started = Callable[..., subprocess.Popen[str]]


def said_until(process: subprocess.Popen[str], sign: str) -> str:
    """What a process says, up to the line that holds a sign."""
    assert process.stderr is not None
    text = ""
    for line in process.stderr:
        text += line
        if sign in line:
            return text
    raise AssertionError(f"it ended without '{sign}': {text}")


def test_a_watcher_evaluates_what_changed_survives_and_ends_by_a_signal(
    place: Path, corpus: Path, started: Started
) -> None:
    watcher = started(*WATCH, "--every", "1s")
    try:
        said_until(watcher, "evaluating (first evaluation)")
        said_until(watcher, "the model is the same as last time")
        put_model(corpus, place / "mine", 1)
        said_until(watcher, "evaluating (another version)")
        said_until(watcher, "every score lies in its band")
        watcher.send_signal(signal.SIGTERM)
        assert watcher.wait() == 0
    finally:
        watcher.kill()
    assert watcher.stderr is not None and "every evaluation so far is in the store" in watcher.stderr.read()
    with Store.open(str(place / "store.db")) as store:
        found = store.evaluations.all()
    assert len(found) == 2 and len({one.release for one in found}) == 2
    assert [(s.task, s.metric, s.n) for s in found[0].scores] == [("words", "accuracy", 8)]
    # Started again, it waits for the rest of its time.
    watcher = started(*WATCH, "--every", "1d")
    try:
        said_until(watcher, "the next look is in")
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait() == 130
    finally:
        watcher.kill()


def watched(place: Path, **more: Any) -> Watched:
    asked = Asked(str(place / "mine"), [str(place / "words.yaml")])
    return Watched(asked, **{"store": str(place / "store.db"), "every": 3600.0, **more})


@pytest.fixture
def mute() -> Callable[[str], None]:
    return lambda message: None


def test_what_is_due_is_in_the_store(place: Path, corpus: Path, mute: Callable[[str], None]) -> None:
    mine = watched(place)
    assert seconds_left(mine) == 0
    first = look(mine, mute)
    assert first.evaluated and first.evaluation is not None and 3590 < seconds_left(mine) <= 3600
    assert not look(mine, mute).evaluated
    again = look(watched(place, always=True), mute)
    assert again.evaluated and again.why == "asked for" and again.evaluation is not None
    assert again.evaluation.scores == first.evaluation.scores
    # Another number of items is another thing to be done.
    other = Watched(Asked(mine.asked.model, mine.asked.tasks, limit=4), store=mine.store, every=3600.0)
    assert seconds_left(other) == 0 and look(other, mute).evaluated
    put_model(corpus, place / "mine", 1)
    assert look(mine, mute).why == "another version"
    with Store.open(mine.store) as store:
        assert store.evaluations.count() == 4


def test_items_that_do_not_fit_are_told(place: Path, mute: Callable[[str], None]) -> None:
    with (place / "words.jsonl").open("a") as file:
        file.write(json.dumps({"q": "word " * 200, "options": ["a", "b"], "gold": 0}) + "\n")
    found = look(watched(place), mute)
    assert found.as_json()["long"] == {"words, 0 shots": 1} and "1 too long for words, 0 shots" in _text("mine", found)


def test_one_that_is_interrupted_is_due_again(
    place: Path, mute: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> Iterator[Any]:
        yield from ()
        raise KeyboardInterrupt

    with monkeypatch.context() as changed:
        changed.setattr("ownlm.watch.look.run_ready", killed)
        with pytest.raises(KeyboardInterrupt):
            look(watched(place), mute)
    assert seconds_left(watched(place)) == 0 and look(watched(place), mute).why == "first evaluation"


def test_a_loop_keeps_its_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour after an evaluation; after a look that found nothing new an hour after that; a failed one is made again then."""
    slept: list[float] = []
    looks = iter([Look(True, "", "r"), Look(False, "", "r"), OwnlmError("the disk is away"), Look(False, "", "r")])
    said: list[str] = []

    def seen(*arguments: Any) -> Look:
        found = next(looks, None)
        if found is None:
            raise KeyboardInterrupt
        if isinstance(found, OwnlmError):
            raise found
        return found

    monkeypatch.setattr(loop, "look", seen)
    monkeypatch.setattr(loop, "_sleep", slept.append)
    moments = iter([None, datetime.now(UTC) - timedelta(minutes=10)])
    monkeypatch.setattr(loop, "last_made", lambda watched: next(moments))
    with pytest.raises(KeyboardInterrupt):
        loop.watch(watched(place), said.append, lambda found: None)
    assert slept == [pytest.approx(3000, abs=5), 3600, 3600, 3600]
    assert "this look failed: the disk is away" in said


def test_what_is_wrong_at_first_is_an_error(place: Path, mute: Callable[[str], None]) -> None:
    asked = Asked(str(place / "nothing"), [str(place / "words.yaml")])
    with pytest.raises(UserError, match="no such model"):
        loop.watch(Watched(asked, store=str(place / "s.db"), every=60), mute, lambda found: None)
    with pytest.raises(UserError, match="there is no task 'boolk'"):
        loop.watch(Watched(Asked("mine", ["boolk"]), store=str(place / "s.db"), every=60), mute, lambda found: None)


def test_an_alert_is_posted_and_one_that_does_not_arrive_is_said(place: Path, mute: Callable[[str], None]) -> None:
    from ownlm.config import validate
    from ownlm.evaluate.bands import BandsConfig

    got: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204 if self.path == "/good" else 500)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    limits = validate(BandsConfig, {"bands": [{"task": "words", "metric": "accuracy", "low": 1.5, "by": "value"}]})
    said: list[str] = []
    try:
        found = look(watched(place, bands=limits, webhook=f"{url}/good"), said.append)
        look(watched(place, bands=limits, webhook=f"{url}/bad?key=secret", always=True), said.append)
        with pytest.raises(OwnlmError, match="it answered 500"):
            post(f"{url}/bad", {})
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    (alert,) = found.alerts
    assert got[0]["alerts"][0]["words"] == alert.words and got[0]["alerts"][0]["band_high"] is None
    assert got[0]["model"] == str(place / "mine") and alert.side == "below"
    (failed,) = [line for line in said if "did not arrive" in line]
    assert "500" in failed and "secret" not in failed
    with pytest.raises(OwnlmError, match="did not arrive"):
        post(url, {})


@pytest.mark.parametrize("url", ["ftp://example.org", "example.org/x", "https://", "http://[::1"])
def test_a_webhook_is_an_address_of_http(url: str) -> None:
    with pytest.raises(UserError, match="no address of HTTP"):
        check_webhook(url)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("6h", 21600), ("1.5 d", 129600), ("1w", 604800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text, "--every") == seconds


@pytest.mark.parametrize("text", ["", "6", "h", "-1h", "6 fortnights", "0s", "500d", "1h30m"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UserError, match="is no duration"):
        duration(text, "--every")
