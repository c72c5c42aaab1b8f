"""Documents with evaluation items planted in them, and hard negatives, drawn with a seed.

A positive document holds one item, edited as leaks are; a negative one shares text with the items and is no leak: a
quotation, an instruction, a formula, a passage without its question. Both stand among paragraphs of real documents.
"""

from __future__ import annotations

import bz2
import json
import random
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from planted_texts import CODE, FORMULAE, INSTRUCTIONS, LISTS, POEMS, QUOTATIONS

from ownlm.data.contamination.options import DecontaminationOptions, EvaluationSet
from ownlm.data.contamination.sets import Item, read_sets

PUBLIC = {
    "arc_easy": ["llm_eval/arc_easy.jsonl"],
    "boolq": ["llm_eval/boolq.jsonl"],
    "copa": ["llm_eval/copa.jsonl"],
    "hellaswag": [],
    "lambada": ["llm_eval/lambada_openai.jsonl"],
    "policyqa": ["policyqa/dev.json"],
    "squad2": ["squad_like/squad2_halfdev_chute.json"],
    "winogrande": ["llm_eval/winogrande.jsonl"],
    "xquad": ["squad_like/xquad.en.json"],
}
"""The evaluation sets and their files; HellaSwag's is rewritten as JSON Lines."""

SHARED = {"quotation": QUOTATIONS, "poem": POEMS, "formula": FORMULAE, "code": CODE, "list": LISTS}

_HOUSEHOLD = [
    ("How long should I soak dried beans before cooking them?", "Overnight is fine, and change the water."),
    ("My train leaves at nine. When do I have to be at the station?", "Ten minutes earlier will do."),
    ("Can I return the shoes without the box?", "Yes, as long as they have not been worn outside."),
    ("Where do I find the invoice for last month?", "Under billing, in the list of documents."),
    ("What size of pot does a basil plant need?", "About a hand's width across."),
    ("Is the swimming pool open on public holidays?", "Only in the afternoon."),
    ("How do I reset the password of my router?", "Hold the small button for ten seconds."),
    ("Which bus goes from the harbour to the old town?", "Number twelve, every quarter of an hour."),
]


@dataclass(frozen=True)
class Document:
    """A document, what was planted in it, and the item it leaks, if any."""

    text: str
    kind: str
    item: Item | None


@dataclass(frozen=True)
class Planted:
    """The evaluation sets as a user would name them, their items, and the documents."""

    options: DecontaminationOptions
    items: list[Item]
    documents: list[Document]


def plant(data: Path, folder: Path, names: Sequence[str], seed: int, each: int) -> Planted:
    """Draws ``each`` documents of every kind.

    Args:
        data: the shared data.
        folder: where evaluation files that have to be written go.
        names: which public sets; the sets made of shared texts are always among them.
        seed: of every draw.
        each: documents of a kind.
    """
    draw = random.Random(f"{seed} {' '.join(names)}")
    # Odd seeds and even seeds share neither quotations nor formulae.
    shared = {kind: entries[seed % 2 :: 2] for kind, entries in SHARED.items()}
    sets = [EvaluationSet(name=name, path=_paths(data, folder, name)) for name in names]
    sets += _written_sets(data, folder, shared, draw)
    options = DecontaminationOptions(sets=sets)
    items = read_sets(options)
    drawn = _Draws(data, items, list(names), draw)
    documents = [drawn.positive(kind) for kind in POSITIVES for _ in range(each)]
    for kind in ("instruction", "passage", "other subject", "part", "same question", "clean"):
        documents += [drawn.negative(kind) for _ in range(each)]
    for kind, entries in shared.items():
        for number in range(each):
            text, _, answer = entries[number % len(entries)]
            # A page about the text often names what the question asks for, such as its author.
            after = f" ({answer})" if number % 3 == 0 else ""
            documents.append(Document(drawn.host(text + after, draw.random() < 0.5), kind, None))
    draw.shuffle(documents)
    return Planted(options, items, documents)


def _paths(data: Path, folder: Path, name: str) -> list[str]:
    if name != "hellaswag":
        return [str(data / path) for path in PUBLIC[name]]
    packed = (data / "hellaswag" / "hellaswag_val_full.txt.bz2").read_bytes()
    lines = bz2.decompress(packed).decode().strip().split("\n")
    with (folder / "hellaswag.jsonl").open("w") as file:
        for first in range(0, len(lines), 6):
            row = {"ctx": lines[first], "label": lines[first + 1], "endings": lines[first + 2 : first + 6]}
            file.write(json.dumps(row) + "\n")
    return [str(folder / "hellaswag.jsonl")]


def _written_sets(
    data: Path, folder: Path, shared: dict[str, list[tuple[str, str, str]]], draw: random.Random
) -> list[EvaluationSet]:
    """A set whose items hold the shared texts, in the question or in a passage, and one whose items share templates."""
    quoted: list[dict[str, str]] = []
    for kind, entries in shared.items():
        for number, (text, question, answer) in enumerate(entries):
            passage = f"Visitors of the exhibition in room {number + 3} saw the words: {text} Many wrote them down."
            about = f"Which object did the guide show to the visitors of the {kind} exhibition in room {number + 3}?"
            quoted.append({"question": question, "answer": answer})
            quoted.append({"question": about, "passage": passage, "answer": "a copper lamp"})
    lines = (data / "llm_eval" / "arc_easy.jsonl").read_text().strip().split("\n")
    rows = [json.loads(line) for line in draw.sample(lines, 240)]
    templated = []
    for number, row in enumerate(rows):
        template = INSTRUCTIONS[number % len(INSTRUCTIONS)]
        question = row["query"].removeprefix("Question: ")
        templated.append({"prompt": f"{template}\n\n{question}", "choices": row["choices"], "gold": row["gold"]})
    for name, values in (("quoted", quoted), ("templated", templated)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))
    return [EvaluationSet(name=name, path=str(folder / f"{name}.jsonl")) for name in ("quoted", "templated")]


class _Draws:
    """Draws items, edits and host paragraphs."""

    def __init__(self, data: Path, items: list[Item], names: list[str], draw: random.Random) -> None:
        self.draw = draw
        self.paragraphs = _paragraphs(data)
        self.by_set = {name: [item for item in items if item.set == name] for name in names}
        self.asked = Counter(item.question for item in items)
        self.counts = Counter(word for item in items for word in _words(item.question))
        self.vocabulary = sorted({word for text in self.paragraphs[:400] for word in text.split() if word.isalpha()})

    def item(self, fits: Callable[[Item], bool]) -> Item:
        """An item of a set drawn first, so that large sets do not crowd out small ones."""
        for _ in range(10_000):
            item = self.draw.choice(self.by_set[self.draw.choice(sorted(self.by_set))])
            if fits(item):
                return item
        raise ValueError("no item fits")

    def host(self, text: str, inline: bool) -> str:
        """The text among paragraphs of real documents, as one of its own or in the middle of a line."""
        around = self.draw.sample(self.paragraphs, self.draw.randint(3, 8))
        place = self.draw.randrange(len(around))
        if not inline:
            return "\n\n".join([*around[:place], text, *around[place:]])
        words = around[place].split(" ")
        cut = self.draw.randrange(len(words))
        around[place] = " ".join([*words[:cut], text, *words[cut:]])
        return "\n\n".join(around)

    def positive(self, kind: str) -> Document:
        fits, write, inline = POSITIVES[kind]
        item = self.item(lambda item: bool(item.answers) and fits(item))
        return Document(self.host(write(item, self), inline), kind, item)

    def reworded(self, question: str) -> str:
        """A word changed, inserted or deleted, one in eight and at least one."""
        words = question.split(" ")
        for _ in range(max(1, round(len(words) / 8))):
            place = self.draw.randrange(len(words))
            edit = self.draw.choice(("change", "change", "insert", "delete"))
            if edit == "insert":
                words.insert(place, self.draw.choice(self.vocabulary))
            elif edit == "delete" and len(words) > 3:
                del words[place]
            else:
                words[place] = self.draw.choice(self.vocabulary)
        return " ".join(words)

    def negative(self, kind: str) -> Document:
        write = {
            "instruction": self._instruction,
            "passage": lambda: self.item(lambda item: bool(item.passage)).passage,
            "other subject": self._other_subject,
            "part": self._part,
            "same question": self._same_question,
            "clean": lambda: self.draw.choice(self.paragraphs),
        }[kind]
        return Document(self.host(write(), False), kind, None)

    def _instruction(self) -> str:
        question, answer = self.draw.choice(_HOUSEHOLD)
        return f"{self.draw.choice(INSTRUCTIONS)}\n\n{question}\n\nAnswer: {answer}"

    def _other_subject(self) -> str:
        """An item's question with its rarest words, its subject, replaced by another's, and another answer."""
        item = self.item(lambda item: len(item.question.split()) in range(7, 15) and bool(item.answers))
        other = self.item(lambda item: bool(item.answers))
        words = item.question.split(" ")
        rare = sorted(range(len(words)), key=lambda place: self._count(words[place]))
        fresh = sorted(_words(other.question), key=lambda word: (self.counts[word], word))
        for number, place in enumerate(rare[: 1 if len(words) < 11 else 2]):
            words[place] = fresh[number % len(fresh)]
        return " ".join(words) + "\n" + other.answers[0]

    def _count(self, word: str) -> int:
        return min((self.counts[part] for part in _words(word)), default=10**9)

    def _part(self) -> str:
        """Six words or more, at most two fifths of a long question."""
        words = self.item(lambda item: len(item.question.split()) >= 18).question.split()
        length = self.draw.randint(6, len(words) * 2 // 5)
        start = self.draw.randrange(len(words) - length)
        return self.draw.choice(self.paragraphs) + " " + " ".join(words[start : start + length]) + "."

    def _same_question(self) -> str:
        """A question that several passages of a reading set are asked, without any of them; another's answer."""
        reading = [
            item for items in self.by_set.values() for item in items if item.passage and self.asked[item.question] >= 5
        ]
        if not reading:
            return self._part()
        item = self.draw.choice(reading)
        return item.question + "\n" + self.draw.choice(self.paragraphs)


def _always(item: Item) -> bool:
    return True


def _has_choices(item: Item) -> bool:
    return len(item.choices) > 1 and bool(item.letter)


def _verbatim(item: Item, draws: _Draws) -> str:
    return f"{item.question} {item.answers[0]}"


def _recased(item: Item, draws: _Draws) -> str:
    text = _verbatim(item, draws)
    text = draws.draw.choice((str.upper, str.lower, str.title))(text)
    return re.sub(r"[^\w\s]", draws.draw.choice(("", " ", " - ")) if "'" not in text else " ", text)


def _separated(item: Item, draws: _Draws) -> str:
    between = draws.draw.choice(draws.paragraphs).split()[: draws.draw.randint(15, 35)]
    return f"{item.question}\n\n{' '.join(between)}\n\n{item.answers[0]}"


def _with_choices(item: Item, draws: _Draws, letter_only: bool) -> str:
    choices = list(item.choices)
    if not letter_only:
        draws.draw.shuffle(choices)
    lines = [f"{chr(65 + number)}) {choice}" for number, choice in enumerate(choices)]
    letter = chr(65 + choices.index(item.answers[0]))
    answer = letter if letter_only else f"{letter}) {item.answers[0]}"
    return "\n".join([item.question, *lines, f"Answer: {answer}"])


def _letter_alone(item: Item, draws: _Draws) -> str:
    return f"{item.question}\nAnswer: {item.letter.upper()}"


def _json(item: Item, draws: _Draws) -> str:
    row = {"id": draws.draw.randrange(10**6), "question": item.question, "answer": item.answers[0], "split": "test"}
    return json.dumps(row, sort_keys=draws.draw.random() < 0.5, ensure_ascii=draws.draw.random() < 0.5)


def _markdown(item: Item, draws: _Draws) -> str:
    question = re.sub(r"(\w{6,})", r"**\1**", item.question, count=2)
    return f"### Question 7\n\n> {question}\n\n<details><summary>Answer</summary>\n\n*{item.answers[0]}*\n\n</details>"


def _wrapped(item: Item, draws: _Draws) -> str:
    return "\n".join("> " + line for line in textwrap.wrap(_verbatim(item, draws), 38))


def _reading(item: Item, draws: _Draws) -> str:
    return f"{item.passage}\n\nQ: {item.question}\nA: {item.answers[0]}"


# What is planted: which items fit, how it is written, and whether in the middle of a paragraph.
POSITIVES: dict[str, tuple[Callable[[Item], bool], Callable[[Item, _Draws], str], bool]] = {
    "verbatim": (_always, _verbatim, False),
    "in a page": (_always, _verbatim, True),
    "reworded": (_always, lambda item, draws: f"{draws.reworded(item.question)} {item.answers[0]}", False),
    "recased": (_always, _recased, False),
    "separated": (_always, _separated, False),
    "choices reordered": (_has_choices, lambda item, draws: _with_choices(item, draws, False), False),
    "letter only": (_has_choices, lambda item, draws: _with_choices(item, draws, True), False),
    "letter alone": (_has_choices, _letter_alone, False),
    "json": (_always, _json, False),
    "markdown": (_always, _markdown, False),
    "line-wrapped": (_always, _wrapped, False),
    "with its passage": (lambda item: bool(item.passage), _reading, False),
}


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _paragraphs(data: Path) -> list[str]:
    """Paragraphs of at least 40 words from PEPs, WikiText-2 (test) and 18F's posts, in a fixed order."""
    texts = [path.read_text() for path in sorted((data / "peps").glob("*.rst"))[:150]]
    texts += [path.read_text() for path in sorted((data / "brand_voice_18f" / "18f_posts").glob("*.md"))[:200]]
    texts.append((data / "wikitext2" / "wiki.test.tokens").read_text().replace("\n", "\n\n"))
    found = (" ".join(part.split()) for text in texts for part in text.split("\n\n"))
    return sorted({part for part in found if 40 <= len(part.split()) <= 250})
