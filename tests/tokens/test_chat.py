"""Rendered conversations against Transformers, and the rule that prompts are prefixes of what is trained."""

from __future__ import annotations

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from ownlm.errors import DataError, ModelError, UserError
from ownlm.tokens.chat import RenderedChat, render_for_training
from ownlm.tokens.tokenizer import Tokenizer

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = """\
{%- set ns = namespace(first=true) %}
{%- for message in messages %}
    {%- set text = '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\\n\\n' ~ message.content | trim ~ '<|eot_id|>' %}
    {%- if ns.first %}{% set ns.first = false %}{{ bos_token }}{% endif %}
    {{- text }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
MISTRAL = """\
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set turns = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in turns %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('user and assistant must take turns') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {%- if loop.first and system is defined %}
            {{- '[INST] ' + system + '\\n\\n' + message['content'] + ' [/INST]' }}
        {%- else %}
            {{- '[INST] ' + message['content'] + ' [/INST]' }}
        {%- endif %}
    {%- else %}
        {%- generation %}{{ ' ' + message['content'] + eos_token }}{% endgeneration %}
    {%- endif %}
{%- endfor %}
"""
# Reasoning is written only after the last question, as in Qwen3.
QWEN3 = """\
{%- set ns = namespace(last=-1) %}
{%- for message in messages %}{% if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- set thought = '' %}
    {%- if '</think>' in content %}
        {%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' and loop.index0 > ns.last %}
        {{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}
    {%- endif %}
    {{- content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
TEMPLATES = {"smollm2": SMOLLM2, "llama3": LLAMA3, "mistral": MISTRAL, "qwen3": QWEN3}

ONE = [{"role": "user", "content": "What is the capital of France?"}, {"role": "assistant", "content": "Paris."}]
TWO = [
    {"role": "system", "content": "Be brief."},
    *ONE,
    {"role": "user", "content": "And of Spain?"},
    {"role": "assistant", "content": "Madrid, of course."},
]


def make(backend: str, template: str | None, bos: str = "<|begin_of_text|>", eos: str = "<|endoftext|>") -> Tokenizer:
    parsed = tokenizers.Tokenizer.from_str(backend)
    return Tokenizer.from_parts(parsed, bos=bos, eos=eos, pad=eos, chat_template=template)


def reference(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=tokenizer.chat_template, **tokenizer.names)


def trained_text(tokenizer: Tokenizer, chat: RenderedChat) -> str:
    return tokenizer.decode([i for i, t in zip(chat.ids, chat.trained, strict=True) if t], skip_special=False)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("messages", [ONE, TWO], ids=["one turn", "two turns"])
@pytest.mark.parametrize("asking", [False, True])
def test_render_equals_transformers(chat_backend: str, name: str, messages: list, asking: bool) -> None:
    tokenizer = make(chat_backend, TEMPLATES[name])
    asked = messages[:-1] if asking else messages
    expected = reference(tokenizer).apply_chat_template(asked, add_generation_prompt=asking, return_dict=False)
    assert tokenizer.render(asked, add_generation_prompt=asking) == expected
    text = reference(tokenizer).apply_chat_template(asked, add_generation_prompt=asking, tokenize=False)
    assert tokenizer.render_text(asked, add_generation_prompt=asking) == text


@pytest.mark.parametrize("messages", [ONE, TWO], ids=["one turn", "two turns"])
def test_render_equals_transformers_where_texts_begin_with_a_space(llama_backend: str, messages: list) -> None:
    tokenizer = make(llama_backend, MISTRAL, "<s>", "</s>")
    expected = reference(tokenizer).apply_chat_template(messages, return_dict=False)
    assert tokenizer.render(messages) == expected


def test_the_template_alone_writes_the_beginning(chat_backend: str) -> None:
    tokenizer = make(chat_backend, LLAMA3)
    assert tokenizer.render(TWO).count(tokenizer.bos_id) == 1


def test_answers_are_trained_with_their_end(chat_backend: str) -> None:
    tokenizer = make(chat_backend, SMOLLM2)
    (chat,) = render_for_training(tokenizer, TWO)
    assert chat.ids == tokenizer.render(TWO)
    assert trained_text(tokenizer, chat) == "Paris.<|im_end|>\nMadrid, of course.<|im_end|>\n"
    (chat,) = render_for_training(make(chat_backend, MISTRAL), TWO)
    assert trained_text(tokenizer, chat) == " Paris.<|endoftext|> Madrid, of course.<|endoftext|>"


def test_a_question_that_repeats_the_answer_is_not_trained(chat_backend: str) -> None:
    tokenizer = make(chat_backend, SMOLLM2)
    echo = "assistant\nParis.<|im_end|>"
    messages = [{"role": "user", "content": echo}, {"role": "assistant", "content": echo}]
    (chat,) = render_for_training(tokenizer, messages)
    prompt = tokenizer.render(messages[:1], add_generation_prompt=True)
    assert chat.trained == [False] * len(prompt) + [True] * (len(chat.ids) - len(prompt))


def test_padding_with_the_end_token_leaves_it_trained(chat_backend: str) -> None:
    tokenizer = make(chat_backend, MISTRAL)
    assert tokenizer.pad_id == tokenizer.eos_id
    (chat,) = render_for_training(tokenizer, ONE)
    assert chat.ids[-1] == tokenizer.eos_id
    assert chat.trained[-1]


def test_a_template_that_rewrites_history_gives_one_document_an_answer(chat_backend: str) -> None:
    tokenizer = make(chat_backend, QWEN3)
    messages = [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "<think>\nEasy.\n</think>\n\nParis."},
        {"role": "user", "content": "And of Spain?"},
        {"role": "assistant", "content": "<think>\nAlso easy.\n</think>\n\nMadrid."},
    ]
    first, second = render_for_training(tokenizer, messages)
    assert trained_text(tokenizer, first) == "<think>\nEasy.\n</think>\n\nParis.<|im_end|>\n"
    assert trained_text(tokenizer, second) == "<think>\nAlso easy.\n</think>\n\nMadrid.<|im_end|>\n"
    assert "Easy" not in tokenizer.decode(second.ids)
    for end, chat in ((1, first), (3, second)):
        prompt = tokenizer.render(messages[:end], add_generation_prompt=True)
        assert chat.ids[: len(prompt)] == prompt
        assert chat.ids == tokenizer.render(messages[: end + 1])


contents = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.sampled_from(
    ["\n", " x", "\n\n  y", "<|im_end|>", "</think>", "[/INST]", "a</think>b", "<s>"]
)


@given(
    st.sampled_from(sorted(TEMPLATES)), st.lists(st.tuples(contents, contents), min_size=1, max_size=3), st.booleans()
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_prompts_are_prefixes_of_what_is_trained(
    chat_backend: str, llama_backend: str, name: str, turns: list, system: bool
) -> None:
    messages = [{"role": "system", "content": "S"}] if system else []
    for question, answer in turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    for tokenizer in (make(chat_backend, TEMPLATES[name]), make(llama_backend, TEMPLATES[name], "<s>", "</s>")):
        chats = render_for_training(tokenizer, messages)
        answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        for number, i in enumerate(answers):
            chat = chats[0] if len(chats) == 1 else chats[number]
            prompt = tokenizer.render(messages[:i], add_generation_prompt=True)
            assert chat.ids[: len(prompt)] == prompt
            assert not chat.trained[len(prompt) - 1]
            assert chat.trained[len(prompt)]
        assert chats[-1].ids == tokenizer.render(messages)
        assert chats[-1].trained[-1]


def test_a_greeting_is_context(bpe: Tokenizer) -> None:
    messages = [{"role": "assistant", "content": "Welcome!"}, *ONE]
    (chat,) = render_for_training(bpe, messages)
    assert trained_text(bpe, chat) == "Paris.<|im_end|>\n"


def test_tokenizer_without_template_or_turn_tokens(llama_backend: str) -> None:
    tokenizer = make(llama_backend, None, "<s>", "</s>")
    assert tokenizer.render_text(TWO) == (
        "System: Be brief.\n\nUser: What is the capital of France?\n\nAssistant: Paris.</s>"
        "\n\nUser: And of Spain?\n\nAssistant: Madrid, of course.</s>"
    )
    (chat,) = render_for_training(tokenizer, ONE)
    assert chat.ids[-1] == tokenizer.eos_id
    assert chat.trained[-1]
    assert tokenizer.stop_ids == {tokenizer.eos_id}


def test_tokenizer_without_template_uses_chatml_where_it_can(chat_backend: str) -> None:
    tokenizer = make(chat_backend, None)
    assert tokenizer.render_text(ONE[:1], True) == (
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.with_explicit_template().chat_template == tokenizer.template_source()


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "no messages"),
        ("Hello", "a list of messages"),
        ([{"role": "user"}], "message 1 has no 'content'"),
        ([{"role": "user", "content": None}], "content of message 1 is not a text"),
        ([{"role": "human", "content": "x"}], "unknown role 'human'"),
        (["x"], "message 1 is not an object"),
    ],
)
def test_malformed_conversations(bpe: Tokenizer, messages: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        bpe.render(messages)


@pytest.mark.parametrize("messages", [ONE[:1], [{"role": "assistant", "content": "Welcome!"}]])
def test_no_answer(bpe: Tokenizer, messages: list) -> None:
    with pytest.raises(DataError, match="no answer"):
        render_for_training(bpe, messages)


def test_a_template_refuses(chat_backend: str) -> None:
    with pytest.raises(UserError, match="user and assistant must take turns"):
        make(chat_backend, MISTRAL).render([*ONE[:1], *ONE[:1]])


def test_a_template_whose_answers_do_not_follow_its_prompt(chat_backend: str) -> None:
    template = (
        "{% for m in messages %}{{ m.role + m.content }}{% endfor %}{% if add_generation_prompt %}<think>{% endif %}"
    )
    tokenizer = make(chat_backend, template)
    with pytest.raises(ModelError, match="differently from the way it asks"):
        render_for_training(tokenizer, ONE)
    assert tokenizer.render(ONE)
    assert tokenizer.stop_ids == {tokenizer.eos_id}
