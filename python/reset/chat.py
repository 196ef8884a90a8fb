"""Chats to text through a checkpoint's Jinja template, byte for byte as transformers renders it.

A chat template is a small program that came with somebody's weights. It is untrusted: it runs in Jinja's immutable sandbox,
where it cannot reach Python's internals, change what it is given, or call anything but methods of plain data. So that there
is nothing else to call, every input is first rebuilt from plain dicts, lists, strings and numbers. Jinja's own cap of
100,000 on ``range`` holds, and templates and results beyond a fixed size are refused. A template can still waste time with
nested loops (Ctrl-C ends it): the sandbox protects the machine, not the clock.

Around the standard language, templates of the Hugging Face hub expect: ``trim_blocks`` and ``lstrip_blocks``; ``break`` and
``continue``; a ``tojson`` filter that leaves ``<``, ``>`` and non-ASCII letters alone; ``raise_exception(message)``;
``strftime_now(format)``; and ``{% generation %}`` blocks, which only mark the assistant's part and change no text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

if TYPE_CHECKING:
    from jinja2.parser import Parser
    from jinja2.runtime import Macro

Message: TypeAlias = Mapping[str, Any]
"""One message of a chat: ``role``, ``content`` and whatever else the template reads (``tool_calls``, ``reasoning_content``)."""

MAX_TEMPLATE_CHARACTERS = 1 << 20
MAX_RENDERED_CHARACTERS = 1 << 26

_PROBE = "a-text-part-that-no-template-contains"
_REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
# What a template can raise by itself: Jinja's own errors, and Python's for operations on wrong values.
_TEMPLATE_FAULTS = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)


class _GenerationBlock(Extension):
    """``{% generation %} … {% endgeneration %}``: the body as it is, in a scope of its own."""

    tags = {"generation"}  # noqa: RUF012  (declared so by jinja2)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Macro) -> str:
        return str(caller())


class _GuardedNamespace(Namespace):
    """Jinja's ``namespace``, without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # no named self: a template may write namespace(self=…)
        self, *rest = args
        initial: dict[Any, Any] = dict(*rest, **kwargs)
        for name in initial:
            _refuse_underscore(name)
        Namespace.__init__(self, initial)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        super().__setitem__(name, value)


def _refuse_underscore(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"namespace attributes must not begin with an underscore: {name!r}")


class _DictMaker:
    """``dict(…)`` for templates, without the attributes of the class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, keys: Any, value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)  # local time, as a user would say what day it is


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now, dict=_DictMaker(), namespace=_GuardedNamespace)
    return environment


class ChatTemplate:
    """A compiled chat template.

    Args:
        text: the template.
        where: how error messages call it.
        error: the exception for a template that is not valid Jinja.
    """

    def __init__(self, text: str, *, where: str = "chat_template", error: type[Exception] = ValueError) -> None:
        if len(text) > MAX_TEMPLATE_CHARACTERS:
            raise error(f"{where}: {len(text):,} characters; templates above {MAX_TEMPLATE_CHARACTERS:,} are refused")
        self._where = where
        try:
            self._template = _environment().from_string(text)
        except TemplateSyntaxError as fault:
            raise error(f"{where}: line {fault.lineno}: {fault.message}") from fault
        except (TemplateError, RecursionError) as fault:
            raise error(f"{where}: cannot be compiled: {fault}") from fault
        self._reads_parts: bool | None = None

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
        variables: Mapping[str, object] | None = None,
    ) -> str:
        """The chat as text. ValueError for malformed messages and for whatever the template refuses.

        As transformers does, keys whose value is None are dropped, and reasoning given as ``thinking`` or ``reasoning`` is
        also passed as ``reasoning_content``. Unlike transformers, content in text parts is joined (with newlines) for a
        template that reads strings only; such templates would otherwise leave it out without a word.
        """
        chat = [_checked(message, index) for index, message in enumerate(_checked_list(messages, "messages"))]
        if not chat:
            raise ValueError("messages is empty; a chat needs at least one message")
        if any(isinstance(message.get("content"), list) for message in chat) and not self._reads_text_parts():
            chat = [_with_joined_text(message) for message in chat]
        return self._run(
            {
                **(variables or {}),
                "messages": [_with_reasoning(message) for message in chat],
                "tools": None if tools is None else _checked_list(tools, "tools"),
                "documents": None if documents is None else _checked_list(documents, "documents"),
                "add_generation_prompt": add_generation_prompt,
            }
        )

    def _run(self, variables: Mapping[str, object]) -> str:
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._template.generate(plain_data(variables)):
                size += len(piece)
                if size > MAX_RENDERED_CHARACTERS:
                    raise ValueError(f"more than {MAX_RENDERED_CHARACTERS:,} characters of output")
                pieces.append(piece)
        except _TEMPLATE_FAULTS as fault:
            raise ValueError(f"{self._where}: {fault}") from fault
        return "".join(pieces)

    def _reads_text_parts(self) -> bool:
        """Whether a text given as a list of parts comes out, found by trying."""
        if self._reads_parts is None:
            probe = {"role": "user", "content": [{"type": "text", "text": _PROBE}]}
            try:
                self._reads_parts = _PROBE in self._run({"messages": [probe], "add_generation_prompt": False})
            except ValueError:
                self._reads_parts = False
        return self._reads_parts


def plain_data(value: Any) -> Any:
    """A copy made of plain dicts, lists, tuples, strings and numbers only; anything else becomes its type's name, ``<Image>``.

    Objects carry methods that a sandbox knows nothing about. A copy without them leaves a template nothing to call.
    """
    match value:
        case None | True | False:
            return value
        case np.generic():
            return plain_data(value.item())
        case str():
            return str.__str__(value)
        case int():
            return int.__int__(value)
        case float():
            return float.__float__(value)
        case Mapping():
            return {plain_data(key): plain_data(item) for key, item in value.items()}
        case list():
            return [plain_data(item) for item in value]
        case tuple():
            return tuple(plain_data(item) for item in value)
        case _:
            return f"<{type(value).__name__}>"


def _checked_list(value: object, name: str) -> list[Mapping[str, Any]]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
        raise ValueError(f"{name} must be a list of dicts, got {type(value).__name__}")
    for index, item in enumerate(value):
        if not isinstance(item, Mapping):
            raise ValueError(f"{name}[{index}] must be a dict, got {type(item).__name__}")
    return list(value)


def _checked(message: Message, index: int) -> dict[str, Any]:
    here = f"messages[{index}]"
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise ValueError(f"{here}: role must be a non-empty str such as 'system', 'user', 'assistant' or 'tool', got {role!r}")
    content = message.get("content")
    if content is None:
        if not message.get("tool_calls"):
            raise ValueError(f"{here} ({role}): content is missing; only a message with tool_calls may have none")
    elif isinstance(content, Sequence) and not isinstance(content, str | bytes):
        for part_index, part in enumerate(content):
            if not (isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)):
                raise ValueError(
                    f"{here}: content[{part_index}] must be {{'type': 'text', 'text': str}}, got {part!r}; the models here read text only"
                )
    elif not isinstance(content, str):
        raise ValueError(f"{here} ({role}): content must be a str or a list of text parts, got {type(content).__name__}")
    kept = {key: value for key, value in message.items() if value is not None}
    if isinstance(kept.get("content"), Sequence) and not isinstance(kept["content"], str):
        kept["content"] = list(kept["content"])
    return kept


def _with_joined_text(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    return {**message, "content": "\n".join(part["text"] for part in content)} if isinstance(content, list) else message


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    reasoning = next((message[key] for key in _REASONING_KEYS if key in message), None)
    return message if reasoning is None else {"thinking": reasoning, **message, "reasoning_content": reasoning}
