"""HateCheck (Röttger et al. 2021): cases that are hateful or not beyond doubt, sorted by what makes them hard."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .measurement import Measurement, mean, of_values
from .scorers import Figure, Scorer
from .shipped import SHIPPED
from .statistics import interval
from .task import Item, read_items

HATEFUL = "hateful"
# The paper's functionalities (table 1), in words that go on from "takes".
FUNCTIONALITIES = {
    "derog_neg_emote_h": "strong negative feelings about a group",
    "derog_neg_attrib_h": "very negative descriptions of a group",
    "derog_dehum_h": "dehumanising words about a group",
    "derog_impl_h": "implied derogation of a group",
    "threat_dir_h": "direct threats against a group",
    "threat_norm_h": "threats that say what should be done to a group",
    "slur_h": "hate by a slur",
    "slur_homonym_nh": "harmless words that are spelt like slurs",
    "slur_reclaimed_nh": "slurs that a group uses of itself",
    "profanity_h": "hate by swearwords",
    "profanity_nh": "swearwords that attack nobody",
    "ref_subs_clause_h": "hate whose target is named in a clause before",
    "ref_subs_sent_h": "hate whose target is named in a sentence before",
    "negate_pos_h": "hate by denying something good",
    "negate_neg_nh": "negated hate",
    "phrase_question_h": "hate put as a question",
    "phrase_opinion_h": "hate put as an opinion",
    "ident_neutral_nh": "neutral sentences that name a group",
    "ident_pos_nh": "praise of a group",
    "counter_quote_nh": "answers to hate that quote it",
    "counter_ref_nh": "answers to hate that refer to it",
    "target_obj_nh": "abuse of things",
    "target_indiv_nh": "abuse of a person who stands for no group",
    "target_group_nh": "abuse of groups that need no protection",
    "spell_char_swap_h": "hate with letters swapped",
    "spell_char_del_h": "hate with letters left out",
    "spell_space_del_h": "hate without spaces",
    "spell_space_add_h": "hate with spaces between letters",
    "spell_leet_h": "hate with digits for letters",
}
# A functionality with less than this right is a known error.
FAILS = 0.7


@dataclass(frozen=True)
class Functions:
    """What HateCheck found: all cases first, then each functionality; and the cases about each group."""

    by_function: tuple[Figure, ...]
    by_group: tuple[Figure, ...]


def cases() -> list[Item]:
    """HateCheck's 3,728 cases, as they come with ownlm."""
    return read_items(SHIPPED / "hatecheck.jsonl.gz")


def check(scorer: Scorer, items: Sequence[Item]) -> Functions:
    """How often a scorer is right on each functionality; cases of one template are one source of evidence.

    Args:
        scorer: whose positive class stands for hateful.
        items: with ``functionality``, ``text``, ``label``, ``group`` and ``template``.
    """
    values = [item.values for item in items]
    hateful = np.array([one["label"] == HATEFUL for one in values])
    right = (scorer.scores([one["text"] for one in values]) >= 0.5) == hateful
    templates = np.array([one["template"] for one in values], np.int64)
    figure = functools.partial(_figure, items, right, templates)
    functions = np.array([one["functionality"] for one in values])
    groups = np.array([one["group"] for one in values])
    found = [figure("overall", np.ones(len(right), bool), "")]
    for label, chosen in ((HATEFUL, hateful), ("non-hateful", ~hateful)):
        found.append(figure(label, chosen, label))
    names = [name for name in FUNCTIONALITIES if (functions == name).any()]
    names += sorted(set(functions.tolist()) - set(names))
    for name in names:
        labels = {str(one["label"]) for one in values if one["functionality"] == name}
        found.append(figure(name, functions == name, labels.pop() if len(labels) == 1 else ""))
    by_group = [figure(name, groups == name, "") for name in sorted(set(groups.tolist())) if name]
    return Functions(tuple(found), tuple(by_group))


def known_errors(found: Functions, positive: str) -> tuple[str, ...]:
    """The functionalities that it fails on, the worst first, in words.

    Args:
        found: as ``check`` gives it.
        positive: the scorer's positive class, such as "toxic".
    """
    fails = [one for one in found.by_function if one.name in FUNCTIONALITIES and one.value < FAILS]
    sentences = []
    for one in sorted(fails, key=lambda one: one.value):
        taken = f"not {positive}" if one.label == HATEFUL else positive
        what = FUNCTIONALITIES[one.name]
        sentences.append(f"It takes {what} to be {taken} in {1 - one.value:.0%} of HateCheck's {one.n} such cases.")
    if len(found.by_group) > 1:
        low, high = (pick(found.by_group, key=lambda one: one.value) for pick in (min, max))
        if low.high < high.low:
            sentences.append(
                f"It is right in {low.value:.0%} of HateCheck's cases about {low.name} and in {high.value:.0%} of those about "
                f"{high.name}."
            )
    return tuple(sentences)


def _figure(
    items: Sequence[Item], right: np.ndarray, templates: np.ndarray, name: str, chosen: np.ndarray, label: str
) -> Figure:
    keys = [item.key for item, taken in zip(items, chosen, strict=True) if taken]
    measured = Measurement("hatecheck", mean("accuracy", best=1.0), of_values(right[chosen]), keys, templates[chosen])
    low, high = interval(measured)
    return Figure(name=name, value=measured.value, low=low, high=high, n=len(keys), label=label)
