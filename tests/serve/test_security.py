"""Keys, roles, rates and quotas, with a real store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from ownlm.serve.security import Rates
from ownlm.store import Store

from .conftest import NAME, Running, Start

GIVEN = "a key from the environment"
OPEN = {"/health", "/ready", "/login"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'store.db'}"


@pytest.fixture(scope="module")
def store(url: str) -> Iterator[Store]:
    with Store.open(url) as opened:
        opened.keys.create("the first, so that keys are on")
        yield opened


@pytest.fixture(scope="module")
def locked(start_server: Start, tiny: Path, url: str, store: Store) -> Iterator[Running]:
    with start_server(tiny, "--store", url, "--host", "0.0.0.0", key=GIVEN) as running:
        running.address = running.address.replace("0.0.0.0", "127.0.0.1")
        yield running


def ask(server: Running, key: str | None, method: str = "GET", path: str = "/v1/models") -> httpx.Response:
    headers = {} if key is None else {"Authorization": key}
    return httpx.request(method, server.address + path, headers=headers)


def test_every_route_but_health_and_readiness_answers_401_without_a_key(locked: Running):
    described = locked.get("/openapi.json").json()
    assert described["security"] == [{"key": []}]
    routes = [(method.upper(), path) for path, item in described["paths"].items() for method in item]
    assert len(routes) >= 10
    routes += [("GET", "/openapi.json"), ("GET", "/"), ("GET", "/nothing"), ("POST", "/logout"), ("GET", "/login")]
    for method, path in routes:
        answer = ask(locked, None, method, path)
        assert answer.status_code == (200 if path in OPEN - {"/login"} else 401), path
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"] == "Bearer"
            if path != "/login":
                assert answer.json()["error"]["type"] == "authentication_error"
        if path in ("/health", "/ready"):
            assert "security" in described["paths"][path]["get"]


def test_keys_of_the_usual_store_count_without_naming_it(start_server: Start, tiny: Path, tmp_path: Path):
    with Store.open(str(tmp_path / "store.db")) as store:
        text, key = store.keys.create("me")
        with start_server(tiny, home=tmp_path) as running:
            assert ask(running, None).status_code == 401
            assert ask(running, f"Bearer {text}").status_code == 200
            # Nobody but its owner should get in once it is gone, so the server stays shut.
            store.keys.revoke(key.id)
            assert ask(running, None).status_code == 401


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer wrong", f"Basic {GIVEN}", f"Bearer {GIVEN.upper()}", f"Bearer {GIVEN}x", GIVEN],
)
def test_wrong_keys_are_401(locked: Running, header: str):
    assert ask(locked, header).status_code == 401


def test_keys_given_and_stored_open_it_until_they_are_revoked(locked: Running, store: Store):
    assert ask(locked, f"Bearer {GIVEN}").status_code == 200
    text, key = store.keys.create("somebody")
    assert ask(locked, f"bearer {text}").status_code == 200
    assert ask(locked, f"Bearer {text.swapcase()}").status_code == 401
    store.keys.revoke(key.id)
    assert ask(locked, f"Bearer {text}").status_code == 401


def test_two_keys_are_no_key(locked: Running):
    headers = [("Authorization", f"Bearer {GIVEN}"), ("Authorization", f"Bearer {GIVEN}")]
    answer = httpx.get(f"{locked.address}/v1/models", headers=headers)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "ambiguous_key"


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_balancers_may_ask_without_a_body(locked: Running, path: str):
    answer = httpx.head(locked.address + path)
    assert answer.status_code == 200 and answer.content == b""


def test_the_openai_client_gets_its_own_errors(locked: Running):
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{locked.address}/v1", api_key="wrong").models.list()
    assert locked.client().models.list().data[0].id == NAME


def test_a_rate_is_kept_to_and_told(locked: Running, store: Store):
    text, _ = store.keys.create("slow", requests_per_minute=3)
    answers = [ask(locked, f"Bearer {text}") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 20
    assert answers[-1].json()["error"]["code"] == "rate_limit_exceeded"
    # Others have their own.
    assert ask(locked, f"Bearer {GIVEN}").status_code == 200


def test_a_quota_counts_prompts_and_answers(locked: Running, store: Store):
    text, key = store.keys.create("thrifty", tokens_per_day=120)
    headers = {"Authorization": f"Bearer {text}"}
    body = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 80, "ignore_eos": True}
    url = f"{locked.address}/v1/chat/completions"
    first = httpx.post(url, json=body, headers=headers, timeout=60).json()["usage"]
    for _ in range(100):
        used = store.usage.of(key.id)
        if used.completion_tokens == 80:
            break
        time.sleep(0.05)
    assert (used.requests, used.prompt_tokens, used.completion_tokens) == (1, first["prompt_tokens"], 80)
    refused = httpx.post(url, json=body, headers=headers, timeout=60)
    assert refused.status_code == 429 and refused.json()["error"]["code"] == "insufficient_quota"
    assert int(refused.headers["retry-after"]) <= 86_400
    # What was refused counts nothing.
    assert store.usage.of(key.id) == used
    assert httpx.get(f"{locked.address}/v1/models", headers=headers).status_code == 200


def test_a_quota_for_three_lets_three_of_twenty_in_at_once(locked: Running, store: Store):
    body = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 30, "ignore_eos": True}
    prompt = locked.post("/v1/chat/completions", body).json()["usage"]["prompt_tokens"]
    text, key = store.keys.create("three", tokens_per_day=3 * (prompt + 30) + 5)
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: chat_with(locked, text, **body), range(20)))
    done = [answer.json()["usage"]["completion_tokens"] for answer in answers if answer.status_code == 200]
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 17
    settled(store, key.id, prompt, done)
    assert {answer.json()["error"]["code"] for answer in answers if answer.status_code == 429} == {"insufficient_quota"}


def test_what_an_answer_did_not_take_is_given_back(locked: Running, store: Store):
    text, key = store.keys.create("patient", tokens_per_day=400)
    # The whole quota is set aside for it; four tokens come.
    body = {
        "messages": [{"role": "user", "content": "Hello"}],
        "response_format": {"type": "choice", "choices": ["ab"]},
    }
    for count in range(1, 4):
        usage = chat_with(locked, text, model=NAME, temperature=0, **body).json()["usage"]
        settled(store, key.id, usage["prompt_tokens"], [usage["completion_tokens"]] * count)
    # A request that is refused for another reason takes nothing, nor does one that is too large for what is left.
    used = store.usage.of(key.id)
    assert chat_with(locked, text, model=NAME, logit_bias={"99999": 1}, **body).status_code == 400
    assert chat_with(locked, text, model=NAME, max_tokens=400, **body).status_code == 429
    settled(store, key.id, usage["prompt_tokens"], [usage["completion_tokens"]] * 3)
    assert store.usage.of(key.id) == used


def test_an_answer_whose_length_is_left_open_ends_where_the_quota_does(locked: Running, store: Store):
    text, key = store.keys.create("open", tokens_per_day=90)
    body = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}], "ignore_eos": True}
    answer = chat_with(locked, text, **body).json()
    assert answer["choices"][0]["finish_reason"] == "length" and answer["usage"]["total_tokens"] == 90
    settled(store, key.id, answer["usage"]["prompt_tokens"], [answer["usage"]["completion_tokens"]])
    assert chat_with(locked, text, **body).status_code == 429


def test_who_leaves_pays_for_what_was_written(locked: Running, store: Store):
    text, key = store.keys.create("leaver", tokens_per_day=100_000)
    body = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}], "ignore_eos": True, "stream": True}
    headers = {"Authorization": f"Bearer {text}"}
    with httpx.stream("POST", f"{locked.address}/v1/chat/completions", json=body, headers=headers) as stream:
        lines = stream.iter_lines()
        for _ in range(20):
            next(lines)
        assert store.usage.of(key.id).completion_tokens > 1900
    for _ in range(200):
        used = store.usage.of(key.id)
        if used.completion_tokens < 1900:
            break
        time.sleep(0.05)
    assert used.requests == 1 and used.prompt_tokens > 0 and 5 < used.completion_tokens < 1900


def test_a_rate_holds_for_requests_at_once(locked: Running, store: Store):
    text, _ = store.keys.create("at once", requests_per_minute=3)
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: ask(locked, f"Bearer {text}").status_code, range(20)))
    assert sorted(answers) == [200] * 3 + [429] * 17


def chat_with(server: Running, key: str, **body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(f"{server.address}/v1/chat/completions", json=body, headers=headers, timeout=60)


def settled(store: Store, key: str, prompt: int, answers: list[int]) -> None:
    """Waits until these answers, and nothing else, are counted."""
    for _ in range(200):
        used = store.usage.of(key)
        if (used.requests, used.prompt_tokens, used.completion_tokens) == (
            len(answers),
            len(answers) * prompt,
            sum(answers),
        ):
            return
        time.sleep(0.05)
    raise AssertionError(used)


def test_people_sign_in_with_a_form_and_a_cookie(locked: Running):
    with httpx.Client(base_url=locked.address, headers={"Accept": "text/html"}) as browser:
        page = browser.get("/")
        assert page.status_code == 401 and "<form" in page.text and 'type="password"' in page.text
        wrong = browser.post("/login", data={"key": "wrong", "next": "/"})
        assert wrong.status_code == 401 and "not known" in wrong.text and "set-cookie" not in wrong.headers
        right = browser.post("/login", data={"key": GIVEN, "next": "/v1/models"})
        assert (right.status_code, right.headers["location"]) == (303, "/v1/models")
        cookie = right.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie
        assert browser.get("/v1/models").status_code == 200
        browser.post("/logout")
        assert browser.get("/v1/models").status_code == 401


@pytest.mark.parametrize("following", ["https://evil.example/", "//evil.example", "/\\evil.example", "/a\nb", "evil"])
def test_signing_in_leads_nowhere_else(locked: Running, following: str):
    answer = httpx.post(f"{locked.address}/login", data={"key": GIVEN, "next": following})
    assert answer.headers["location"] == "/"


def test_what_is_shown_in_the_form_is_escaped(locked: Running):
    answer = httpx.post(f"{locked.address}/login", data={"key": "x", "next": '"><script>alert(1)</script>'})
    assert "<script>" not in answer.text and "default-src 'none'" in answer.headers["content-security-policy"]
    assert httpx.post(f"{locked.address}/login", content=b"key=" + b"a" * 100_000).status_code == 401


def test_the_log_names_the_key_by_its_id_and_never_what_was_said(locked: Running, store: Store):
    text, key = store.keys.create("logged")
    body = {"model": NAME, "messages": [{"role": "user", "content": "very secret words"}], "max_tokens": 2}
    httpx.post(f"{locked.address}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {text}"})
    # The line is written once the answer is sent.
    for _ in range(100):
        if lines := [line for line in locked.log() if line.get("key") == key.id]:
            break
        time.sleep(0.05)
    assert lines[0]["path"] == "/v1/chat/completions"
    assert lines[0]["prompt_tokens"] > 0 and lines[0]["status"] == 200
    everything = locked.log_path.read_text()
    assert "secret" not in everything and text not in everything and GIVEN not in everything


def test_a_bucket_fills_again_as_time_goes_by():
    now = [0.0]
    rates = Rates(lambda: now[0])
    assert [rates.take("a", 2) for _ in range(3)] == [0, 0, 30]
    assert rates.take("b", 2) == 0
    now[0] = 29
    assert rates.take("a", 2) == pytest.approx(1)
    now[0] = 30
    assert rates.take("a", 2) == 0
    now[0] = 10_000
    # Not more than a minute's worth, however long nobody came.
    assert [rates.take("a", 2) for _ in range(3)] == [0, 0, 30]
