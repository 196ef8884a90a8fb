# ruff: noqa: E501  (templates and chats read best on one line each)
"""Renders chats with transformers: the golden strings of this folder. Run as  python make.py ../../../../shared/tokenizers

Needs transformers (see README.md for the version used). ``cases()`` and ``TEMPLATES`` are the input, and are written out beside
what transformers makes of them, so that the tests need neither transformers nor this file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather <now> & here, in °C",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"place": "Zürich"}}}
CALL_TEXT = {"type": "function", "function": {"name": "weather", "arguments": '{"place": "Oslo"}'}}


def chats() -> dict[str, list[dict[str, Any]]]:
    ask = {"role": "user", "content": "What is 2 + 2?"}
    system = {"role": "system", "content": "Answer briefly."}
    thought = {"role": "assistant", "content": "<think>\nTwo and two.\n\nThat is four.\n</think>\n\n4"}
    return {
        "one question": [ask],
        "system": [system, ask],
        "two turns": [ask, {"role": "assistant", "content": "4"}, {"role": "user", "content": "And 3 + 3?"}],
        "thought in history": [system, ask, thought, {"role": "user", "content": "Sure?"}],
        "thought last": [ask, thought],
        "unfinished thought": [ask, {"role": "assistant", "content": "<think>\nTwo and"}],
        "reasoning_content": [ask, {"role": "assistant", "content": "4", "reasoning_content": "\nTwo and two.\n"}],
        "reasoning": [
            ask,
            {"role": "assistant", "content": "4", "reasoning": "Two."},
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": "!", "thinking": "Hm."},
        ],
        "second system": [ask, system, {"role": "user", "content": "Well?"}],
        "white space": [
            {"role": "user", "content": "  \n\n\tspaces   \r\n"},
            {"role": "assistant", "content": "\n\n a \n\n"},
            {"role": "user", "content": ""},
        ],
        "unicode": [{"role": "user", "content": "naïve Ω → 数学 🙂👩‍👩‍👧 \u200b\u2028 e\u0301"}],
        "markup": [
            {"role": "user", "content": "{{ 1 + 1 }} {% if x %} <b>&amp;</b> \"quotes\" 'single' <|im_start|>system\nno<|im_end|><think>"}
        ],
        "tool result": [
            ask,
            {"role": "assistant", "content": "", "tool_calls": [CALL, CALL_TEXT]},
            {"role": "tool", "content": "21"},
            {"role": "tool", "content": "-3 °C"},
            {"role": "user", "content": "So?"},
        ],
        "tool call with text": [
            ask,
            {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]},
            {"role": "tool", "content": "21"},
        ],
        "no content": [ask, {"role": "assistant", "content": None, "tool_calls": [CALL_TEXT]}, {"role": "tool", "content": "-3"}],
        "many turns": [{"role": ("user", "assistant")[i % 2], "content": f"turn {i}\n\nline"} for i in range(9)],
        "other fields": [{"role": "user", "content": "hi", "name": "Ada", "weight": 1.5, "flags": [True, None, {"a": 1}]}],
    }


def options() -> dict[str, dict[str, Any]]:
    return {
        "plain": {},
        "prompt": {"add_generation_prompt": True},
        "thinking": {"add_generation_prompt": True, "enable_thinking": True},
        "no thinking": {"add_generation_prompt": True, "enable_thinking": False},
        "tools": {"add_generation_prompt": True, "tools": [WEATHER, {**WEATHER, "z": "<é>"}]},
    }


# Small templates of this project's own, one for each thing that templates of the hub rely on.
TEMPLATES = {
    "trimmed blocks": "{% for m in messages %}\n    {% if m.role == 'user' %}\n  U: {{ m.content }}\n    {% else %}\n  A: {{ m['content'] }}\n    {% endif %}\n{% endfor %}\nend\n",
    "tojson": "{{ messages | tojson }}|{{ messages | tojson(indent=2) }}|{{ '<é>' | tojson }}|{{ {'b': 1, 'a': '&'} | tojson(sort_keys=true, ensure_ascii=true) }}",
    "loop controls": "{% for m in messages %}{% if loop.index0 == 1 %}{% continue %}{% endif %}{% if loop.index0 > 3 %}{% break %}{% endif %}{{ loop.index }}{{ m.content }};{% endfor %}",
    "generation": "{% set x = 'outer' %}{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{% set x = 'inner' %}{{ m.content }}{{ x }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{{ x }}\n{% endfor %}",
    "namespace and dict": "{% set ns = namespace(n=0, self='s') %}{% for m in messages %}{% set ns.n = ns.n + m.content|length %}{% endfor %}{{ ns.n }}{{ ns.self }}{{ dict(a=1, b='x').items() | list }}{{ dict.fromkeys(['k'], 2) }}",
    "special tokens": "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}{{ pad_token is defined }}{{ unk_token is defined }}{{ no_such_token }}",
    "what is defined": "{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}{{ enable_thinking is defined }}{{ messages[0].content is string }}{{ messages[0].nothing is defined }}",
    "macro and filters": "{% macro turn(m, sep='/') %}{{ m.role | upper }}{{ sep }}{{ (m.content or '') | trim | replace('a', 'b') | title }}{% endmacro %}{% for m in messages %}{{ turn(m) }}{{ turn(m, '-') | indent(2) }}{% endfor %}{{ messages | map(attribute='role') | join(',') }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
    "python methods": "{{ messages[0].content.split(' ')[-1].strip('?').rstrip() }}{{ messages[-1]['role'].startswith('u') }}{{ messages[0].get('name', 'none') }}{{ '%s-%d' % ('x', 3) }}{{ messages[0].keys() | list }}",
    "parts": "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}{{ part.text }}+{% endfor %}{% endif %}{% endfor %}",
    "raise": "{% if messages | length > 1 %}{{ raise_exception('roles must alternate: ' + messages[1].role) }}{% endif %}{{ messages[0].content }}",
}  # fmt: skip


def main(shared: Path) -> None:
    from transformers import AutoTokenizer

    here = Path(__file__).parent
    for name in ("qwen3", "deepseek-r1-qwen"):
        tokenizer = AutoTokenizer.from_pretrained(shared / name)
        cases = [
            {"chat": chat, "options": option, "messages": messages, "arguments": arguments, **outcome(tokenizer, messages, arguments)}
            for chat, messages in chats().items()
            for option, arguments in options().items()
        ]
        write(here / f"{name}.json", cases)
    tokenizer = AutoTokenizer.from_pretrained(shared / "qwen3")
    tokenizer.add_special_tokens({"bos_token": "<|im_start|>"})
    own = [
        {"template": name, "text": text, "chat": chat, "messages": messages, **outcome(tokenizer, messages, {"chat_template": text})}
        for name, text in TEMPLATES.items()
        for chat, messages in chats().items()
        if chat in ("one question", "thought in history", "unicode", "markup", "many turns", "tool result", "no content")
    ]
    write(here / "own_templates.json", own)


def outcome(tokenizer: Any, messages: list[dict[str, Any]], arguments: dict[str, Any]) -> dict[str, Any]:
    import jinja2

    try:
        return {"rendered": tokenizer.apply_chat_template(messages, tokenize=False, **arguments)}
    except (jinja2.TemplateError, TypeError) as error:
        return {"error": str(error)}


def write(path: Path, cases: list[dict[str, Any]]) -> None:
    path.write_text("[\n" + ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
