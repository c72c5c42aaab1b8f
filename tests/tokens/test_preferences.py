"""Preferences as tokenized datasets."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from ownlm.errors import DataError
from ownlm.tokens.preferences import Preparing, tokenize_preferences
from ownlm.tokens.prepare import PreparedData
from ownlm.tokens.shards import TokenDataset
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer

Prepare = Callable[..., tuple[TokenDataset, PreparedData]]

QUESTION = {"role": "user", "content": "What is it?"}
GOOD, BAD = {"role": "assistant", "content": "A model."}, {"role": "assistant", "content": "Text, what else."}
BEFORE = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}]
BEFORE += [{"role": "assistant", "content": "Hello!"}, QUESTION]


@pytest.fixture(scope="module")
def tokenizer(corpus: Path) -> Tokenizer:
    return load_tokenizer(corpus / "base").with_explicit_template()


@pytest.fixture
def prepare(tokenizer: Tokenizer, tmp_path: Path) -> Prepare:
    """Rows, or a file, as a dataset."""

    def run(rows: list[dict[str, Any]] | Path, **options: Any) -> tuple[TokenDataset, PreparedData]:
        path = rows if isinstance(rows, Path) else tmp_path / "rows.jsonl"
        if not isinstance(rows, Path):
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        preparing = Preparing(**{"tokenizer": tokenizer, "length": 256, **options})
        prepared = tokenize_preferences(path, preparing, cache_folder=tmp_path / "cache")
        return TokenDataset(prepared.folder), prepared

    return run


@pytest.fixture(scope="module")
def public(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same tokenizer and template in the public library."""
    folder = tmp_path_factory.mktemp("public")
    tokenizer.save(folder)
    return transformers.AutoTokenizer.from_pretrained(folder)


def rendered(public: Any, messages: list[dict[str, str]]) -> tuple[list[int], list[bool]]:
    """A conversation's ids, and which of them its last answer has, by the public library."""
    prompt = public.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
    whole = public.apply_chat_template(messages, return_dict=False)
    assert whole[: len(prompt)] == prompt
    return whole, [False] * len(prompt) + [True] * (len(whole) - len(prompt))


def documents(dataset: TokenDataset) -> list[tuple[list[int], list[bool]]]:
    return [(ids.tolist(), trained.tolist()) for ids, trained in map(dataset.document, range(len(dataset)))]


SHAPES: dict[str, tuple[dict[str, Any], list[dict[str, str]]]] = {
    "texts beside a prompt": (
        {"prompt": "What is it?", "chosen": "A model.", "rejected": "Text, what else."},
        [QUESTION],
    ),
    "texts beside an instruction and its input": (
        {"instruction": "What is", "input": "it?", "output": "?", "chosen": "A model.", "rejected": "Text, what else."},
        [{"role": "user", "content": "What is\n\nit?"}],
    ),
    "answers as messages": ({"prompt": BEFORE, "chosen": [GOOD], "rejected": [BAD]}, BEFORE),
    "conversations": ({"chosen": [*BEFORE, GOOD], "rejected": [*BEFORE, BAD]}, BEFORE),
    "transcripts": (
        {
            "chosen": "\n\nHuman: Hello.\n\nAssistant: Hello!\n\nHuman: What is it?\n\nAssistant: A model.",
            "rejected": "\n\nHuman: Hello.\n\nAssistant: Hello!\n\nHuman: What is it?\n\nAssistant: Text, what else.",
        },
        BEFORE[1:],
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_pairs_are_rendered_as_the_public_library_does_and_train_the_answer_alone(
    shape: str, prepare: Prepare, public: Any
) -> None:
    row, before = SHAPES[shape]
    dataset, prepared = prepare([row])
    expected = [rendered(public, [*before, GOOD]), rendered(public, [*before, BAD])]
    assert documents(dataset) == expected
    assert (dataset.group, dataset.info["kind"], dict(dataset.columns)) == (2, "preference", {})
    assert prepared.documents == 2 and prepared.tokens == sum(len(ids) for ids, _ in expected)
    assert prepared.trained == sum(sum(trained) for _, trained in expected)


def test_answers_judged_alone(prepare: Prepare, public: Any) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "What is it?", "completion": "A model.", "label": True},
        {"messages": [*BEFORE, BAD], "label": False},
        SHAPES["conversations"][0],
    ]
    dataset, prepared = prepare(rows, judged=True)
    messages = [[QUESTION, GOOD], [*BEFORE, BAD], [*BEFORE, GOOD], [*BEFORE, BAD]]
    assert documents(dataset) == [rendered(public, conversation) for conversation in messages]
    assert dataset.columns["desirable"].tolist() == [[1], [0], [1], [0]]
    assert (dataset.group, prepared.documents) == (1, 4)


def test_a_table_says_true_and_false_in_letters(prepare: Prepare, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,response,label\nWhat?,A model.,True\nWhat?,Text.,false\n")
    dataset, _ = prepare(path, judged=True)
    assert dataset.columns["desirable"].tolist() == [[1], [0]]
    # As tables write numbers of which some are missing.
    path.write_text("prompt,response,label\nWhat?,A model.,1.0\nWhat?,Text.,0.0\n")
    assert prepare(path, judged=True)[0].columns["desirable"].tolist() == [[1], [0]]


def test_a_template_that_rewrites_earlier_turns(prepare: Prepare, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """As Qwen3's, which drops the reasoning of earlier answers: the answer stands as it would be generated."""
    template = (
        "{% for m in messages %}{% if m.role == 'assistant' and not loop.last %}{{ m.content.split('|')[-1] }}"
        "{% else %}{{ m.content }}{% endif %}{{ eos_token }}{% endfor %}"
    )
    rewriting = Tokenizer(tokenizer.backend, names=tokenizer.names, chat_template=template)
    before = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "model|reads"}, QUESTION]
    dataset, _ = prepare([{"chosen": [*before, GOOD], "rejected": [*before, BAD]}], tokenizer=rewriting)
    eos = rewriting.eos_id
    prompt = [*rewriting.encode("a"), eos, *rewriting.encode("reads"), eos, *rewriting.encode("What is it?"), eos]
    for (ids, trained), answer in zip(documents(dataset), (GOOD, BAD), strict=True):
        words = [*rewriting.encode(answer["content"]), eos]
        assert rewriting.decode(ids, False) == rewriting.decode(prompt + words, False)
        assert ids[-len(words) :] == words and sum(trained) == len(words) and all(trained[-len(words) :])


PAIR = {"prompt": "What is it?", "chosen": "A model.", "rejected": "Text."}
UNUSABLE = {
    "equal answers": (PAIR | {"rejected": "A model."}, "the chosen and the rejected answer are the same", 2),
    "missing": ({"prompt": "What?", "chosen": "A model."}, "'rejected' is missing", 2),
    "null": (PAIR | {"chosen": None}, "'chosen' is missing", 2),
    "empty": (PAIR | {"chosen": " \n"}, "'chosen' is empty", 2),
    "no messages": ({"prompt": "What?", "chosen": [], "rejected": [BAD]}, "'chosen' is empty", 2),
    "no pair at all": ({"prompt": "What?", "response": "A model."}, "'chosen' is missing", 2),
    "no question": ({"chosen": "A model.", "rejected": "Text."}, "'chosen' is a text, and not the JSON of a list", 2),
    "a number": (PAIR | {"chosen": 3}, "'chosen' must be a list of messages", 2),
    "an answer not given": (
        {"chosen": [*BEFORE[1:3], QUESTION, GOOD], "rejected": [*BEFORE[1:3], QUESTION]},
        "the conversation of 'rejected' does not end with an answer of its own",
        2,
    ),
    "one answer more": (
        {"chosen": BEFORE[1:3], "rejected": [*BEFORE[1:3], QUESTION, BAD]},
        "the conversation of 'chosen' does not end with an answer of its own",
        2,
    ),
    "different questions": (
        {"chosen": [*BEFORE, GOOD], "rejected": [QUESTION, BAD]},
        "the chosen and the rejected conversation differ before their last answer",
        2,
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_rows_that_say_nothing(case: str, prepare: Prepare, tmp_path: Path) -> None:
    row, message, count = UNUSABLE[case]
    with pytest.raises(DataError) as caught:
        prepare([PAIR, row])
    assert caught.value.message == message
    assert caught.value.where == f"{tmp_path / 'rows.jsonl'}:2"
    assert caught.value.hint == "mend the row, or set objective.unusable to drop"
    dataset, prepared = prepare([PAIR, row], unusable="drop")
    (dropped,) = prepared.dropped.values()
    assert len(dataset) == 2 and dropped["documents"] == count
    assert dataset.info["dropped"] == prepared.dropped


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "What?", "response": "A model."}, "found 'prompt', 'response'; expected an answer with 'label'"),
        ({"prompt": "What?", "response": "A model.", "label": "maybe"}, "the label is true or false, not 'maybe'"),
        ({"text": "A model.", "label": True}, "found 'text', 'label'; expected a question"),
        ({"messages": [*BEFORE], "label": True}, "this conversation does not end with an answer"),
        ({"prompt": "What?", "response": "", "label": True}, "'response' is empty"),
    ],
)
def test_answers_that_cannot_be_judged(row: dict[str, Any], message: str, prepare: Prepare) -> None:
    good = {"prompt": "What?", "response": "A model.", "label": True}
    with pytest.raises(DataError) as caught:
        prepare([good, row], judged=True)
    assert caught.value.message.startswith(message) and str(caught.value.where).endswith(":2")
    _, prepared = prepare([good, row], judged=True, unusable="drop")
    assert [part["documents"] for part in prepared.dropped.values()] == [1]


def test_answers_that_only_rendering_finds_equal(prepare: Prepare, tokenizer: Tokenizer) -> None:
    template = "{% for m in messages %}{{ m.content | trim }}{{ eos_token }}{% endfor %}"
    trimming = Tokenizer(tokenizer.backend, names=tokenizer.names, chat_template=template)
    rows = [PAIR, PAIR | {"rejected": "A model. "}]
    with pytest.raises(DataError, match="are the same"):
        prepare(rows, tokenizer=trimming)
    _, prepared = prepare(rows, tokenizer=trimming, unusable="drop")
    tokens = 2 * len(trimming.render([QUESTION, GOOD]))
    assert prepared.dropped == {"equal answers": {"documents": 2, "tokens": tokens}}


def test_both_of_a_pair_go_where_one_is_too_long(prepare: Prepare, tokenizer: Tokenizer) -> None:
    long = PAIR | {"rejected": "Text, what else. " * 30}
    rows = [long, PAIR]
    with pytest.raises(DataError, match=r"has \d+ tokens, more than the 64 of data.length") as caught:
        prepare(rows, length=64)
    assert str(caught.value.where).endswith("rows.jsonl:1")
    dataset, prepared = prepare(rows, length=64, too_long="drop")
    messages = ([QUESTION, GOOD], [QUESTION, {"role": "assistant", "content": long["rejected"]}])
    tokens = sum(len(tokenizer.render(conversation)) for conversation in messages)
    assert prepared.dropped == {"longer than 64 tokens": {"documents": 2, "tokens": tokens}}
    assert len(dataset) == 2


def test_nothing_left(prepare: Prepare) -> None:
    with pytest.raises(DataError, match=r"nothing is left to train on \(2 documents: equal answers\)"):
        prepare([PAIR | {"rejected": "A model."}], unusable="drop")


def test_it_is_kept_by_content(prepare: Prepare) -> None:
    first, again = prepare([PAIR])[0], prepare([PAIR])[0]
    assert first.folder == again.folder
    others = [prepare([PAIR], **change)[0] for change in ({"judged": True}, {"length": 99}, {"unusable": "drop"})]
    assert len({first.folder, *(other.folder for other in others)}) == 4


def test_real_preferences(prepare: Prepare, shared_data: Path, tmp_path: Path) -> None:
    """Counts found by reading the files otherwise: six equal pairs, and four transcripts that end with no answer."""
    path = shared_data / "rasbt_instruct" / "instruction-data-with-preference.json"
    _, prepared = prepare(path, length=2048, unusable="drop")
    assert prepared.documents == 2 * 1094 and prepared.dropped["equal answers"]["documents"] == 12
    with pytest.raises(DataError) as caught:
        prepare(path, length=2048)
    equal = [i for i, row in enumerate(json.loads(path.read_text()), 1) if row["chosen"] == row["rejected"]]
    assert caught.value.where == f"{path}:{equal[0]}"
    transcripts = tmp_path / "hh.jsonl"
    with gzip.open(shared_data / "hh_rlhf" / "test.jsonl.gz", "rb") as file:
        transcripts.write_bytes(file.read())
    _, prepared = prepare(transcripts, length=2**20, unusable="drop")
    texts = [json.loads(line) for line in transcripts.read_text().split("\n") if line]
    silent = [row for row in texts if any(row[key].endswith("\n\nAssistant: ") for key in ("chosen", "rejected"))]
    assert sum(part["documents"] for part in prepared.dropped.values()) == 2 * len(silent) == 8
    assert prepared.documents == 2 * (2312 - 4)
