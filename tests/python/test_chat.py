"""Chat templates: byte for byte what transformers renders, and nothing a template should not do."""

from __future__ import annotations

import enum
import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from small_tokenizers import byte_level

from reset import CheckpointError
from reset.chat import MAX_TEMPLATE_CHARACTERS, ChatTemplate, plain_data
from reset.text import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

USER = {"role": "user", "content": "hi"}
ECHO = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
SPECIAL = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}


def cases(golden: Path, name: str) -> list[dict[str, Any]]:
    return json.loads((golden / "chat" / f"{name}.json").read_text())


def test_own_templates_render_as_in_transformers(golden: Path) -> None:
    for case in cases(golden, "own_templates"):
        template = ChatTemplate(case["text"])
        if "error" in case:
            with pytest.raises(ValueError, match=f"chat_template: .*{case['error']}"):
                template.render(case["messages"], variables=SPECIAL)
        else:
            assert template.render(case["messages"], variables=SPECIAL) == case["rendered"], (case["template"], case["chat"])


@pytest.mark.parametrize("name", ["qwen3", "deepseek-r1-qwen"])
def test_real_templates_render_as_in_transformers(shared: Path, golden: Path, name: str) -> None:
    tokenizer = Tokenizer.from_dir(shared / "tokenizers" / name)
    assert tokenizer is not None
    for case in cases(golden, name):
        if "error" in case:
            with pytest.raises(ValueError, match=case["error"]):
                tokenizer.apply_chat_template(case["messages"], tokenize=False, **case["arguments"])
            continue
        rendered = tokenizer.apply_chat_template(case["messages"], tokenize=False, **case["arguments"])
        assert rendered == case["rendered"], (case["chat"], case["options"])
        ids = tokenizer.apply_chat_template(case["messages"], **case["arguments"])
        assert ids == tokenizer.encode(rendered, add_special_tokens=False)


@pytest.mark.parametrize("name", ["qwen3", "deepseek-r1-qwen"])
def test_ids_equal_those_of_the_installed_transformers(shared: Path, golden: Path, name: str) -> None:
    transformers = pytest.importorskip("transformers", reason="compares with transformers: pip install '.[test-torch]'")
    theirs = transformers.AutoTokenizer.from_pretrained(shared / "tokenizers" / name)
    ours = Tokenizer.from_dir(shared / "tokenizers" / name)
    assert ours is not None
    for case in cases(golden, name):
        if "rendered" in case:
            want = theirs.apply_chat_template(case["messages"], return_dict=False, **case["arguments"])
            assert ours.apply_chat_template(case["messages"], **case["arguments"]) == want


def test_strftime_now_is_local_time() -> None:
    template = ChatTemplate("{{ strftime_now('%Y-%m-%d') }}")
    before = time.strftime("%Y-%m-%d")
    assert template.render([USER]) in (before, time.strftime("%Y-%m-%d"))


def test_thinking_is_undefined_unless_given() -> None:
    tokenizer = Tokenizer.from_backend(byte_level(), chat_template="{{ enable_thinking is defined }} {{ enable_thinking }}")
    assert tokenizer.apply_chat_template([USER], tokenize=False) == "False "
    assert tokenizer.apply_chat_template([USER], tokenize=False, enable_thinking=False) == "True False"
    assert tokenizer.apply_chat_template([USER], tokenize=False, enable_thinking=True) == "True True"


def test_variables_and_special_tokens_reach_the_template() -> None:
    tokenizer = Tokenizer.from_backend(byte_level(), chat_template="{{ eos_token }}{{ colour }}{{ documents }}", eos_token="<|end|>")
    documents = [{"title": "t", "text": "x"}]
    rendered = tokenizer.apply_chat_template([USER], tokenize=False, colour="red", documents=documents)
    assert rendered == "<|end|>red[{'title': 't', 'text': 'x'}]"
    assert tokenizer.apply_chat_template([USER], tokenize=False, eos_token="!", colour="") == "!None"


def test_named_templates() -> None:
    tokenizer = Tokenizer(byte_level(), {}, {"default": "plain", "tool_use": "tools", "rag": "rag"})
    assert tokenizer.apply_chat_template([USER], tokenize=False) == "plain"
    assert tokenizer.apply_chat_template([USER], tokenize=False, tools=[{"name": "f"}]) == "tools"
    assert tokenizer.apply_chat_template([USER], tokenize=False, chat_template="rag") == "rag"
    assert tokenizer.apply_chat_template([USER], tokenize=False, chat_template="{{ 1 + 1 }}") == "2"


def test_no_template_says_what_would_work() -> None:
    bare = Tokenizer.from_backend(byte_level())
    assert not bare.has_chat_template
    with pytest.raises(ValueError, match="no default chat template; it has none: pass chat_template"):
        bare.apply_chat_template([USER])
    assert bare.apply_chat_template([USER], tokenize=False, chat_template=ECHO, add_generation_prompt=True) == "user: hi\nassistant:"
    with pytest.raises(ValueError, match=r"templates named \['a', 'b'\]: pass one"):
        Tokenizer(byte_level(), {}, {"b": "", "a": ""}).apply_chat_template([USER])


def test_text_parts_are_not_lost() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    message = {"role": "user", "content": parts}
    strings_only = ChatTemplate("{% for m in messages %}{% if m.content is string %}{{ m.content }}{% endif %}{% endfor %}")
    assert strings_only.render([message]) == "one\ntwo"
    loop = "{% for p in m.content %}<{{ p.text }}>{% endfor %}"
    both = ChatTemplate(
        f"{{% for m in messages %}}{{% if m.content is string %}}{{{{ m.content }}}}{{% else %}}{loop}{{% endif %}}{{% endfor %}}"
    )
    assert both.render([message]) == "<one><two>"
    assert message["content"] is parts  # the caller's messages stay as they are


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([], "messages is empty"),
        ("hi", "messages must be a list of dicts, got str"),
        (USER, "messages must be a list of dicts, got dict"),
        (["hi"], r"messages\[0\] must be a dict, got str"),
        ([USER, {"content": "x"}], r"messages\[1\]: role must be a non-empty str .* got None"),
        ([{"role": 3, "content": "x"}], "role must be a non-empty str .* got 3"),
        ([{"role": "user"}], r"messages\[0\] \(user\): content is missing"),
        ([{"role": "user", "content": 5}], "content must be a str or a list of text parts, got int"),
        ([{"role": "user", "content": ["x"]}], r"content\[0\] must be {'type': 'text', 'text': str}, got 'x'"),
        ([{"role": "user", "content": [{"type": "image", "url": "u"}]}], "the models here read text only"),
    ],
)
def test_malformed_messages_are_named(messages: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ChatTemplate(ECHO).render(messages)


@pytest.mark.parametrize("tools", [3, "f", {"name": "f"}, [len]])
def test_malformed_tools_are_named(tools: Any) -> None:
    with pytest.raises(ValueError, match="tools"):
        ChatTemplate(ECHO).render([USER], tools=tools)


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ strftime_now.__globals__['json'] }}",
        "{{ dict.__class__.__bases__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ namespace(_x=1) }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ '%s' | format | attr('__class__') }}{{ messages | attr('__class__') }}x{{ (messages | attr('__class__')).__mro__ }}",
        "{% include 'secrets.txt' %}",
        "{% import 'os' as os %}{{ os }}",
        "{% for i in range(1000000000) %}{% endfor %}",
        "{{ range(1000000000) | list }}",
        "{{ 1 / 0 }}",
        "{{ messages[7].role }}",
        "{{ nothing.of.this }}",
        "{{ 1 + 'a' }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ raise_exception('no') }}",
    ],
)
def test_what_a_template_must_not_do_is_a_value_error(attack: str) -> None:
    messages = [dict(USER)]
    with pytest.raises(ValueError, match=r"^my template: "):
        ChatTemplate(attack, where="my template").render(messages)
    assert messages == [USER]


@pytest.mark.parametrize(
    "name", ["messages.__class__", "raise_exception.__globals__", "lipsum.__globals__", "'{0.__class__}'.format(messages)"]
)
def test_what_the_sandbox_hides_is_undefined(name: str) -> None:
    assert ChatTemplate(f"[{{{{ {name} }}}}]").render([USER]) == "[]"


def test_template_has_no_objects_to_call() -> None:
    class Trap:
        def write(self) -> str:
            raise AssertionError("called")

    class Name(str):
        def shout(self) -> str:
            raise AssertionError("called")

    class Role(str, enum.Enum):
        user = "user"

    data = plain_data({"a": Trap(), "b": Name("x"), "c": [Role.user, np.float32(1.5), np.bool_(False)], "d": (1, None), Name("k"): True})
    assert data == {"a": "<Trap>", "b": "x", "c": ["user", 1.5, False], "d": (1, None), "k": True}
    assert {type(data["b"]), type(data["c"][0])} == {str}
    assert type(data["c"][1]) is float
    assert data["c"][2] is False
    with pytest.raises(ValueError, match="no attribute 'write'"):
        ChatTemplate("{{ messages[0].thing.write() }}").render([{**USER, "thing": Trap()}])


def test_size_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="templates above 1,048,576 are refused"):
        ChatTemplate("x" * (MAX_TEMPLATE_CHARACTERS + 1), error=CheckpointError)
    monkeypatch.setattr("reset.chat.MAX_RENDERED_CHARACTERS", 1000)
    loop = "{% for i in range(400) %}xxx{% endfor %}"
    with pytest.raises(ValueError, match="more than 1,000 characters of output"):
        ChatTemplate(loop).render([USER])


def test_syntax_errors_blame_the_checkpoint_or_the_caller() -> None:
    broken = "line one\n{% for %}"
    with pytest.raises(CheckpointError, match="chat template 'default': line 2:"):
        Tokenizer.from_backend(byte_level(), chat_template=broken).apply_chat_template([USER])
    with pytest.raises(ValueError, match="chat_template: line 2:"):
        Tokenizer.from_backend(byte_level()).apply_chat_template([USER], chat_template=broken)
