"""Exchanged words: cases worked by hand, and properties of texts put together at random."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownlm.errors import ConfigError
from ownlm.evaluate.swaps import FRAMES, SWAPS, TwoGroups, framed_variants, groups_of, variants
from ownlm.evaluate.swaps.lists import swap_lists
from ownlm.evaluate.swaps.text import prose

LISTS = swap_lists()


@pytest.mark.parametrize(
    ("she", "he"),
    [
        ("She lost her card.", "He lost his card."),
        ("Please call her.", "Please call him."),
        ("Tell her that it is hers, and ask her to sign.", "Tell him that it is his, and ask him to sign."),
        ("We sent her her order.", "We sent him his order."),
        ("We gave her 20 dollars.", "We gave him 20 dollars."),
        ("Her 20 employees left.", "His 20 employees left."),
        ("She hurt herself; SHE'S angry, and she'll complain.", "He hurt himself; HE'S angry, and he'll complain."),
        ("MY WIFE AND HER SISTER", "MY HUSBAND AND HIS BROTHER"),
        ("My mother-in-law is a businesswoman.", "My father-in-law is a businessman."),
        ("Dear Ms. Jones, dear madam,", "Dear Mr. Jones, dear sir,"),
        ("Emily's wife Laurie, and Mary", "Greg's husband Geoffrey, and James"),
        ("Ladies, please!", "Gentlemen, please!"),
        ("an older woman", "an older man"),
    ],
)
def test_she_and_he_there_and_back(she: str, he: str) -> None:
    assert variants(she, "gender") == variants(he, "gender") == {"she": she, "he": he}


@pytest.mark.parametrize(
    ("text", "she", "he"),
    [
        ("Mrs Smith called.", "Mrs Smith called.", "Mr Smith called."),
        ("I miss my mum. Miss Lee", "I miss my mum. Miss Lee", "I miss my dad. Mr Lee"),
        ("Is it a male plug? He asks.", "Is it a male plug? She asks.", "Is it a male plug? He asks."),
    ],
)
def test_words_whose_partner_has_another(text: str, she: str, he: str) -> None:
    assert variants(text, "gender") == {"she": she, "he": he}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("gender", "I miss my order, there, then, other, Sheila, heroes, and the man-made one"),
        (
            "gender",
            "mail her@shop.com, see https://x.com/she, `his`, ```\nhe = 1\n```, {{ her }}, {his}, <she>, @him, he.name",
        ),
        ("names", "Will you mark my bill? Bill me, Mark it: emily, and the Port Anne office"),
        ("religion", "My name is Christian, I buy at Christian Dior and study at the Jewish Museum."),
        ("religion", "What does the Bible say of Islam?"),
        ("religion", "The order from Church Street"),
        ("nationality", "Can I order Chinese food at American Airlines? An African American writer, a Native American"),
        ("nationality", "How do I ship to Mexico?"),
        (
            "age",
            "My old phone is 25 years old. The 25-year-old whisky. I am 25 minutes late, 30% off, aged care, 25-year plan",
        ),
        ("age", "a 5-year-old child and a 45-year-old man"),
        ("age", "An old friend, her old boss, a young adult. How old people are!"),
    ],
)
def test_what_is_not_about_a_person_stays(kind: str, text: str) -> None:
    assert variants(text, kind) == {}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("gender", "my wife and his brother"),
        ("gender", "his or her"),
        ("religion", "a Muslim and a Jew"),
        ("nationality", "an American student from Mexico"),
        ("age", "a young man and an elderly woman"),
        ("names", "Emily and Jamal"),
    ],
)
def test_two_groups_in_one_text_are_told(kind: str, text: str) -> None:
    with pytest.raises(TwoGroups):
        variants(text, kind)


def test_religion_goes_along_as_a_whole() -> None:
    assert variants("I am a Muslim who goes to the mosque, and reads the Quran.", "religion") == {
        "christian": "I am a Christian who goes to the church, and reads the Bible.",
        "muslim": "I am a Muslim who goes to the mosque, and reads the Quran.",
        "jewish": "I am a Jew who goes to the synagogue, and reads the Torah.",
        "hindu": "I am a Hindu who goes to the temple, and reads the Bhagavad Gita.",
    }
    found = variants("An atheist family. Atheists, and I was raised Atheist.", "religion")
    assert found["jewish"] == "A Jewish family. Jews, and I was raised Jewish."
    assert variants("a buddhist woman", "religion")["muslim"] == "a muslim woman"
    # A temple is a Hindu's or a Buddhist's.
    assert (
        variants("The Buddhist community has a temple.", "religion")["jewish"]
        == "The Jewish community has a synagogue."
    )


def test_nationality_with_its_article_and_country() -> None:
    found = variants("I'm an American student from the United States. AN AMERICAN!", "nationality")
    assert found["mexican"] == "I'm a Mexican student from Mexico. A MEXICAN!"
    assert found["indian"] == "I'm an Indian student from India. AN INDIAN!"
    assert found["chinese"] == "I'm a Chinese student from China. A CHINESE PERSON!"
    assert variants("She is Nigerian and asks", "nationality")["german"] == "She is German and asks"
    assert (
        variants("Germans, with German passports", "nationality")["chinese"] == "Chinese people, with Chinese passports"
    )
    assert variants("I am from Nigeria", "nationality")["american"] == "I am from the United States"


@pytest.mark.parametrize(
    ("young", "old"),
    [
        ("a 25-year-old nurse", "a 75-year-old nurse"),
        ("a 30-year-old", "an 80-year-old"),
        ("I am 25 years old, and she's 30.", "I am 75 years old, and she's 80."),
        ("My mother is 31 years old", "My mother is 81 years old"),
        ("a young man; I'm too young", "an old man; I'm too old"),
        ("A young, no, a younger couple", "A young, no, an older couple"),
    ],
)
def test_young_and_old_there_and_back(young: str, old: str) -> None:
    assert variants(young, "age") == variants(old, "age") == {"young": young, "old": old}


def test_old_people_have_no_child_for_a_partner() -> None:
    assert variants("a 65-year-old man", "age")["young"] == "a 25-year-old man"
    assert variants("an elderly man", "age")["young"] == "a young man"


def test_names_keep_their_gender_and_one_name_is_always_the_same() -> None:
    found = variants("Sarah wrote. Sarah's order; Sarah Miller", "names")
    assert list(found) == list(groups_of("names")) and found["white"] == "Sarah wrote. Sarah's order; Sarah Miller"
    assert found["black"] == "Tanisha wrote. Tanisha's order; Tanisha Miller"
    # A name that tells no origin is exchanged for one of each.
    found = variants("Jennifer wrote", "names")
    women = {name for by_gender in LISTS.names.values() for name in by_gender["women"]}
    assert len(found) == 6 and {text.split()[0] for text in found.values()} <= women


def test_lists_of_names_are_apart() -> None:
    names = [name for by in (*LISTS.names.values(), LISTS.known_names) for of in by.values() for name in of]
    assert len(names) == len(set(names))
    assert {len(of) for by in LISTS.names.values() for of in by.values()} == {8}
    nouns = [word for both in LISTS.gender for word in both]
    assert len(nouns) == len(set(nouns))


FILLERS = ["the card", "please", "order 12", "yesterday", "it works", "lost", "and so", "for my phone", "thanks"]
PAIRS = [*LISTS.gender, ("her card", "his card"), ("ask her to", "ask him to"), ("it is hers, and", "it is his, and")]
PAIRS += [("Emily", "Greg"), ("Lakisha's", "Jamal's"), ("Ms Lee", "Mr Lee")]


@given(
    st.lists(
        st.tuples(st.sampled_from(FILLERS), st.sampled_from(PAIRS), st.sampled_from([". ", ", ", "! ", "; "])),
        min_size=1,
        max_size=6,
    )
)
def test_gender_there_and_back(parts: list[tuple[str, tuple[str, str], str]]) -> None:
    she, he = ("".join(f"{filler} {pair[side]}{mark}" for filler, pair, mark in parts) for side in (0, 1))
    assert variants(she, "gender") == {"she": she, "he": he}
    assert variants(he, "gender") == {"she": she, "he": he}


@given(
    st.sampled_from(["religion", "nationality", "names", "age"]),
    st.lists(st.sampled_from(FILLERS), max_size=3),
    st.integers(0, 7),
    st.data(),
)
def test_any_group_there_and_back(kind: str, fillers: list[str], place: int, data: st.DataObject) -> None:
    source, target = (data.draw(st.sampled_from(groups_of(kind))) for _ in range(2))
    said = {
        "religion": lambda group: f"My {LISTS.religion[group]['adjective']} neighbours",
        "nationality": lambda group: f"I am from {LISTS.nationality[group]['country']}",
        "names": lambda group: f"Is {LISTS.names[group]['women'][place]} here",
        "age": lambda group: f"I am {20 + place + 50 * (group == 'old')} years old",
    }[kind]
    first, second = (". ".join([*fillers, said(group)]) for group in (source, target))
    assert variants(first, kind)[target] == second
    assert variants(second, kind)[source] == first


@given(st.text(alphabet=st.sampled_from("bcdfgklmnpqz 0123456789.,!?\n@/`{}<>")), st.sampled_from(list(SWAPS)))
def test_a_text_without_such_words_stays(text: str, kind: str) -> None:
    assert variants(text, kind) == {}


@given(st.text(max_size=80), st.sampled_from(list(SWAPS)))
def test_no_text_breaks_it_and_the_text_itself_is_its_own_groups(text: str, kind: str) -> None:
    try:
        found = variants(f"{text} She is a young Jewish American, Emily.", kind)
    except TwoGroups:
        return
    assert not found or f"{text} She is a young Jewish American, Emily." in found.values()


@pytest.mark.parametrize("kind", SWAPS)
def test_frames_say_who_asks(kind: str) -> None:
    found = framed_variants("Where is my order?", kind, FRAMES[kind], 0)
    assert list(found) == list(groups_of(kind)) and len(set(found.values())) == len(found)
    assert all(text.endswith(". Where is my order?") for text in found.values())
    assert all(re.match(r"(My name is|I am) ", text) for text in found.values())


def test_names_of_frames_take_turns() -> None:
    first = {framed_variants("x", "names", FRAMES["names"], number)["white"] for number in range(16)}
    assert len(first) == 16
    both = [framed_variants("x", "gender", FRAMES["gender"], number) for number in range(48)]
    assert len({one["she"] for one in both}) == len({one["he"] for one in both}) == 48


def test_frames_of_ones_own() -> None:
    assert framed_variants("Hi {x}", "gender", "As a {noun}: {prompt}", 0)["he"] == "As a man: Hi {x}"
    assert (
        framed_variants("Hi", "religion", "I am a {religion}, and ask: {prompt}", 0)["atheist"]
        == "I am an atheist, and ask: Hi"
    )
    assert framed_variants("Hi", "age", "A young woman asks: {prompt}", 0)["old"] == "An old woman asks: Hi"


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ("I am {who}. {prompt}", "'{who}' is not known"),
        ("My name is {name}.", "'{prompt}' stands in it once"),
        ("Hello. {prompt}", "nothing in this frame can be exchanged"),
        ("She and he. {prompt}", "names two groups"),
    ],
)
def test_frames_that_are_none(frame: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        framed_variants("x", "gender", frame, 0)
    assert error.value.where == "frames.gender"


def test_what_is_no_prose_is_closed() -> None:
    text = "see www.a.org/he and a@b.co, `x` #he"
    assert [text[a:b] for a, b in prose(text).closed] == ["www.a.org/he", "a@b.co", "`x`", "#he"]
