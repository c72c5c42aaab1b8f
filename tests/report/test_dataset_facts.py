"""Facts of a manifest: shares, bins and names as people read them."""

from __future__ import annotations

from ownlm.report.dataset_facts import format_share, language_name, length_name, reason_name, typical_length


def test_shares_never_round_to_nothing_or_to_all():
    shares = [
        format_share(part, whole) for part, whole in ((0, 9), (1, 99_999), (1, 3), (99_998, 99_999), (9, 9), (0, 0))
    ]
    assert shares == ["0.0%", "<0.1%", "33.3%", ">99.9%", "100.0%", "–"]


def test_bins_are_named_after_the_words_they_hold():
    # A bin holds the counts of words of as many bits.
    for words in [*range(70), 1023, 1024, 10**6]:
        name = length_name(str(words.bit_length())).replace(",", "").replace("none", "0")
        low, _, high = name.partition("–")
        assert int(low) <= words <= int(high or low)
    assert typical_length({"1": 3, "7": 4}) == "64–127"
    assert typical_length({"1": 4, "7": 4}) == "1"
    assert typical_length({}) == ""


def test_names_of_languages_and_reasons():
    assert [language_name(code) for code in ("de", "tlh", "", "und")] == ["German (de)", "tlh", "unknown", "unknown"]
    assert reason_name("filter/too_short") == "too_short"
    assert reason_name("unreadable/time-limit") == "time limit"
    assert reason_name("personal-data/email") == "e-mail addresses"
    assert reason_name("other") == "other"
