"""Two extractions made one, over small pages whose right text is known."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.data.extract.agreement import combine, compared


def paragraph(name: str, sentences: int = 5) -> str:
    return " ".join(f"The {name} {name}{i} has {name} or {i} {name}s of {name}ry." for i in range(sentences))


A, B, C, D, E = (paragraph(name) for name in ("anchor", "bridge", "castle", "dragon", "eagle"))


def test_compared_lines() -> None:
    assert compared("  Read MORE: “It’s here”, ok! ") == "read more it s here ok"
    assert compared("…—!") == ""


def test_agreement_changes_nothing() -> None:
    assert combine(f"{A}\n{B}", f"{A}\n{B}", ()) == f"{A}\n{B}"


def test_a_paragraph_between_two_that_both_have() -> None:
    assert combine(f"{A}\n{C}", f"{A}\n{B}\n{C}", ()) == f"{A}\n{B}\n{C}"
    assert combine(f"{A}\n- item\n{C}", f"{A}\n- item\n{B}\n{C}", ()) == f"{A}\n{B}\n- item\n{C}"


def test_lines_are_found_inside_of_others() -> None:
    # One extractor joins what the other keeps apart.
    joined = f"Note: {A} {C}"
    assert combine(f"{joined}\n{E}", f"{A}\n{C}\n{D}\n{E}", ()) == f"{joined}\n{D}\n{E}"
    # Many lines begin alike; which of them it is the rest says.
    alike = [f"The same beginning for all of these lines, but number {i} is not." for i in range(90)]
    long = " ".join(alike)
    assert combine(f"{long}\n{E}", "\n".join([*alike[40:], D, E]), ()) == f"{long}\n{D}\n{E}"


def test_what_stands_outside_is_furniture() -> None:
    assert combine(f"{B}\n{C}", f"{A}\n{B}\n{C}\n{D}", ()) == f"{B}\n{C}"


def test_what_is_no_running_text_is_not_inserted() -> None:
    short = "A short line."
    teaser = paragraph("teaser")
    caption = paragraph("caption") + " (AP Photo/Jane Doe)"
    repeated = paragraph("slide")
    unended = paragraph("menu")[:-1]
    whole = "\n".join([A, short, teaser, caption, repeated, repeated, unended, B])
    assert combine(f"{A}\n{B}", whole, {compared(teaser)}) == f"{A}\n{B}"


def test_a_line_that_lost_the_text_of_its_links_is_replaced() -> None:
    broken = B.replace("bridge3 has bridge or", "")
    assert combine(f"{A}\n{broken}\n{C}", f"{A}\n{B}\n{C}", ()) == f"{A}\n{B}\n{C}"
    # A whole line is not given up for one that lost something.
    assert combine(f"{A}\n{B}\n{C}", f"{A}\n{broken}\n{C}", ()) == f"{A}\n{B}\n{C}"


def test_most_of_the_article_was_missed() -> None:
    whole = "\n".join(["Menu", A, "Advertisement", B, C, D, E, "Footer"])
    assert combine(A, whole, ()) == "\n".join([A, "Advertisement", B, C, D, E])
    assert combine("", whole, ()) == "\n".join([A, "Advertisement", B, C, D, E])


LINES = st.lists(st.sampled_from([A, B, C, D, E, "short", "", "- item", A[:60].strip()]), max_size=8)


@settings(deadline=None)
@given(LINES, LINES)
def test_nothing_is_invented(ours: list[str], theirs: list[str]) -> None:
    found = combine("\n".join(ours), "\n".join(theirs), ()).split("\n")
    assert set(found) <= {*ours, *theirs, ""}
    if ours == theirs:
        assert found == ("\n".join(ours)).split("\n")
