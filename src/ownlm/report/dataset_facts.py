"""What a data set's manifest says, in the terms that both its report and its card use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Manifest = Mapping[str, Any]
"""A build's manifest.json."""

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Stage:
    """One step from read to kept.

    Attributes:
        name: what is left is called this.
        loss: what was lost in it is called this.
        lost: documents lost in it.
        left: documents left after it.
        reasons: (reason as the documents table has it, documents), the most frequent first.
    """

    name: str
    loss: str
    lost: int
    left: int
    reasons: Sequence[tuple[str, int]]


# The first part of a reason, what is left after the stage, what the stage dropped. In the order of the build: of
# several reasons the first counts.
_STAGES = (
    ("unreadable", "Readable", "Could not be read"),
    ("filter", "After the filters", "Filtered out"),
    ("personal-data", "After personal data", "Dropped for personal data"),
    ("contaminated", "After decontamination", "Dropped for evaluation items"),
    ("duplicate", "After deduplication", "Dropped as copies"),
)
_LAST = ("Kept", "Dropped for another reason")

_REASONS = {
    "duplicate/exact": "exact copies",
    "duplicate/near": "near-copies",
    "duplicate/paragraphs": "nothing but repeated paragraphs",
    "tokens/too-long": "longer than the model reads",
}

KINDS = {
    "secret": "API keys, tokens and passwords",
    "email": "e-mail addresses",
    "iban": "bank account numbers (IBAN)",
    "card": "payment card numbers",
    "national_id": "national identity numbers",
    "ip_address": "IP addresses",
    "phone": "telephone numbers",
    "address": "street addresses",
    "person": "names of people",
}

POLICIES = {
    "keep": "left as they are",
    "mask": "masked",
    "replace": "replaced by made-up ones",
    "drop": "their documents are dropped",
}

# English names of the languages that identifiers for running text commonly tell apart; codes of ISO 639-1.
LANGUAGES = dict(
    re.findall(
        r"(\w+):(\w+)",
        "af:Afrikaans am:Amharic an:Aragonese ar:Arabic as:Assamese az:Azerbaijani be:Belarusian bg:Bulgarian "
        "bn:Bengali br:Breton bs:Bosnian ca:Catalan cs:Czech cy:Welsh da:Danish de:German dz:Dzongkha el:Greek en:English "
        "eo:Esperanto es:Spanish et:Estonian eu:Basque fa:Persian fi:Finnish fo:Faroese fr:French ga:Irish gl:Galician "
        "gu:Gujarati he:Hebrew hi:Hindi hr:Croatian ht:Haitian hu:Hungarian hy:Armenian id:Indonesian is:Icelandic "
        "it:Italian ja:Japanese jv:Javanese ka:Georgian kk:Kazakh km:Khmer kn:Kannada ko:Korean ku:Kurdish ky:Kyrgyz "
        "la:Latin lb:Luxembourgish lo:Lao lt:Lithuanian lv:Latvian mg:Malagasy mk:Macedonian ml:Malayalam mn:Mongolian "
        "mr:Marathi ms:Malay mt:Maltese nb:Bokmål ne:Nepali nl:Dutch nn:Nynorsk no:Norwegian oc:Occitan or:Odia "
        "pa:Punjabi pl:Polish ps:Pashto pt:Portuguese qu:Quechua ro:Romanian ru:Russian rw:Kinyarwanda se:Sami "
        "si:Sinhala sk:Slovak sl:Slovene sq:Albanian sr:Serbian sv:Swedish sw:Swahili ta:Tamil te:Telugu th:Thai "
        "tl:Tagalog tr:Turkish ug:Uyghur uk:Ukrainian ur:Urdu vi:Vietnamese vo:Volapük wa:Walloon xh:Xhosa yi:Yiddish "
        "yo:Yoruba zh:Chinese zu:Zulu",
    )
)


def stages(manifest: Manifest) -> list[Stage]:
    """The steps from read to kept; reasons of no known stage are lost in the last."""
    documents = manifest["documents"]
    left = documents["read"]
    open_reasons = {reason: count for reason, count in documents["dropped"].items() if count}
    result = []
    for key, name, loss in _STAGES:
        found = {reason: count for reason, count in open_reasons.items() if reason.split("/", 1)[0] == key}
        open_reasons = {reason: count for reason, count in open_reasons.items() if reason not in found}
        left -= sum(found.values())
        result.append(Stage(name, loss, sum(found.values()), left, by_frequency(found)))
    lost = sum(open_reasons.values())
    return [*result, Stage(*_LAST, lost, left - lost, by_frequency(open_reasons))]


def discrepancies(manifest: Manifest) -> list[str]:
    """Where the manifest's numbers do not add up, each as a sentence; none in what a build wrote."""
    documents = manifest["documents"]
    found = []
    left = stages(manifest)[-1].left
    if left != documents["kept"]:
        found.append(f"{left:,} documents are read and not dropped, but {documents['kept']:,} are counted as kept.")
    in_splits = sum(split["documents"] for split in manifest["splits"].values())
    if in_splits != documents["kept"]:
        found.append(f"The splits hold {in_splits:,} documents, but {documents['kept']:,} are counted as kept.")
    for key in ("read", "kept"):
        by_source = sum(source["documents"][key] for source in manifest["sources"].values())
        if by_source != documents[key]:
            found.append(f"The sources add up to {by_source:,} documents {key}, but the total is {documents[key]:,}.")
    return found


def reason_name(reason: str) -> str:
    """A reason in words, read under its stage's name."""
    stage, _, name = reason.partition("/")
    if stage == "personal-data":
        return KINDS.get(name, name)
    if stage == "unreadable":
        return name.replace("-", " ")
    return _REASONS.get(reason, name or reason)


def rule_of(manifest: Manifest, reason: str) -> str:
    """A filter's expression; else the reason as the documents table has it."""
    stage, _, name = reason.partition("/")
    return str(manifest["rules"].get(name, reason)) if stage == "filter" else reason


def as_count(value: Any) -> int:
    """A count, or the sum of counts by reason."""
    return sum(value.values()) if isinstance(value, Mapping) else int(value or 0)


def amounts(manifest: Manifest) -> str:
    """What the amount of text is counted in: tokens, or characters where there is no tokenizer."""
    counted = [split["tokens"] is not None for split in manifest["splits"].values()]
    return "tokens" if counted and all(counted) else "characters"


def amount_of(splits: Mapping[str, Mapping[str, Any]], unit: str, *names: str) -> int:
    """Tokens or characters in the splits named, or in all of them."""
    return sum(int(split.get(unit) or 0) for name, split in splits.items() if not names or name in names)


def leaks(manifest: Manifest) -> list[Mapping[str, Any]]:
    """The listed hits but those in text so common that they are no leak."""
    return [hit for hit in manifest["contamination"]["hits"] if hit.get("verdict", "leak") == "leak"]


def hits_left_in(manifest: Manifest) -> int:
    """How many of the listed evaluation items stand in documents that were kept with them."""
    action = (manifest["recipe"].get("decontaminate") or {}).get("action")
    return 0 if action == "cut" else sum(not hit["dropped"] for hit in leaks(manifest))


def not_looked_for(manifest: Manifest) -> list[str]:
    """The kinds of personal data that the recipe leaves out of the search."""
    options = manifest["recipe"].get("personal_data") or {}
    return [KINDS[kind] for kind, key in (("address", "addresses"), ("person", "names")) if options.get(key) is False]


def without_documents(manifest: Manifest) -> list[str]:
    """The splits that hold nothing; a manifest need not name them."""
    splits = manifest["splits"]
    return [name for name in dict.fromkeys([*SPLITS, *splits]) if not splits.get(name, {}).get("documents")]


def dropped_late(manifest: Manifest) -> int:
    """Documents that were measured as kept and dropped afterwards, when their tokens were written."""
    return max(0, sum(manifest["languages"]["kept"].values()) - int(manifest["documents"]["kept"]))


def language_name(code: str) -> str:
    """A language's name with its code."""
    if code in ("", "None", "null", "unknown", "und"):
        return "unknown"
    return f"{LANGUAGES[code]} ({code})" if code in LANGUAGES else code


def languages_in_words(counts: Mapping[str, int], most: int = 3) -> str:
    """The most frequent languages with their shares: ``en 92.0%, de 5.1%, 7 more``."""
    whole = sum(counts.values())
    ordered = by_frequency(counts)
    parts = [f"{code or 'unknown'} {format_share(count, whole)}" for code, count in ordered[:most]]
    return ", ".join(parts + ([f"{len(ordered) - most} more"] if len(ordered) > most else []))


def length_name(bin_: str) -> str:
    """The words of a document whose count has that many bits: ``64–127``."""
    size = int(bin_)
    if size < 2:
        return "none" if size == 0 else "1"
    return f"{2 ** (size - 1):,}–{2**size - 1:,}"


def typical_length(counts: Mapping[str, int]) -> str:
    """The bin in which the middle document lies, or nothing where there are no documents."""
    middle = (sum(counts.values()) + 1) // 2
    for bin_ in sorted(counts, key=int):
        middle -= counts[bin_]
        if middle <= 0 and counts[bin_]:
            return length_name(bin_)
    return ""


def format_share(part: float, whole: float) -> str:
    """A share in percent; what is not nothing is never 0.0%, and what is not all is never 100.0%."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "<0.1%"
    return ">99.9%" if part < whole and percent >= 99.95 else f"{percent:.1f}%"


def shortened(text: str, most: int) -> str:
    """The text's beginning, with an ellipsis where it goes on."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def place_of(record: Mapping[str, Any]) -> str:
    """Where a document stands: its source, file and line."""
    line = f":{record['line']}" if record.get("line") else ""
    return f"{record.get('source', '')} · {record.get('file', '')}{line}"


def in_words(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def is_language_code(code: str) -> bool:
    """Whether this looks like a code of ISO 639, which is what the hub accepts."""
    return re.fullmatch(r"[a-z]{2,3}", code) is not None and code != "und"


def by_frequency(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The counts, the largest first; equal ones by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
