"""The sandbox: what templates need is there, what they must not reach is not."""

from __future__ import annotations

import datetime
import tracemalloc

import pytest

from ownlm.errors import ModelError, UserError
from ownlm.tokens.template import ChatTemplate

HELLO = [{"role": "user", "content": "<b>Hé</b>"}]


def render(source: str, **names: str) -> str:
    return ChatTemplate(source).render(HELLO, False, **names)


def test_what_templates_of_the_ecosystem_use() -> None:
    assert render("{{ messages[0] | tojson }}") == '{"role": "user", "content": "<b>Hé</b>"}'
    assert render("{{ [1] | tojson(indent=2) }}") == "[\n  1\n]"
    assert render("{{ strftime_now('%Y') }}") == str(datetime.datetime.now().year)
    assert render("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}") == "01"
    assert render("{% generation %}a{% endgeneration %}b") == "ab"
    assert render("{{ bos_token }}", bos_token="<s>") == "<s>"
    # Lines that hold only a tag leave no trace.
    assert render("a\n  {% if true %}\nb\n  {% endif %}\nc") == "a\nb\nc"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception('no') }}",
        "{{ 1 // 0 }}",
        "{{ missing.attribute }}",
        "{{ 'a' + 1 }}",
        "{{ 9 ** 999999999 }}",
    ],
)
def test_strangers_programs_are_refused(source: str) -> None:
    with pytest.raises(UserError, match="does not accept this conversation"):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'abcdefghij' * 1000000000 }}",
        "{{ 1000000000 * [1] }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{{ 'abcdefghij' * 10 }}{% endfor %}{% endfor %}",
    ],
)
def test_output_is_bounded(source: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UserError):
            render(source)
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()


def test_a_broken_template_names_its_line() -> None:
    with pytest.raises(ModelError, match="chat template, line 2") as caught:
        ChatTemplate("a\n{% if %}")
    assert "broken" in caught.value.message
