"""Writes ``docs/reference/command-line.md`` from the command itself.

    python tools/site/command_line.py            # write
    python tools/site/command_line.py --check    # fail if the file says something else

Names and help texts are those of the typer app, kinds and defaults those of the functions behind it, so nothing depends on how a version of
typer lays out its help.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

from typer.main import get_command

from reset.cli import app
from reset.cli._run import EXIT_CODES, NAME

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "command-line.md"

HEAD = f"""# Command line

<!-- Written by tools/site/command_line.py from the command's own help. -->

`{NAME}`, also `python -m reset`. Results go to stdout, progress and messages to stderr; with `--json` stdout is one JSON value and nothing
else. Where a model is taken, `tiny`, a folder or a hub id will do.

| before the command | |
|---|---|
"""

KINDS = {bool: "", int: "integer", float: "number", str: "text", Path: "path"}


def page() -> str:
    """The whole page."""
    group: Any = get_command(app)
    own = [parameter for parameter in group.params if "completion" not in parameter.name]  # typer's; described below
    parts = [HEAD + "".join(f"| `{', '.join(parameter.opts)}` | {cell(parameter.help)} |\n" for parameter in own)]
    parts.append("## Exit codes\n\n| code | |\n|---|---|\n" + "".join(f"| {code} | {cell(text)} |\n" for code, text in EXIT_CODES.items()))
    parts.append(COMPLETION)
    for name, command in group.commands.items():
        parts.append(section(name, command, "##"))
        for inner, subcommand in getattr(command, "commands", {}).items():
            parts.append(section(f"{name} {inner}", subcommand, "###"))
    return "\n".join(parts)


COMPLETION = f"""## Shell completion

    {NAME} --install-completion     # bash, zsh, fish, PowerShell: what runs now
    {NAME} --show-completion        # print it instead

Commands, options, tasks, presets and the words an option takes are completed.
"""


def section(name: str, command: Any, level: str) -> str:
    """One command: what it does, how it is called, its options, examples."""
    lines = [f"{level} {name}", "", code_of(command.help), ""]
    arguments = [p for p in command.params if not p.opts[0].startswith("-")]
    options = [p for p in command.params if p.opts[0].startswith("-") and p.name != "help"]
    if hasattr(command, "commands"):
        return "\n".join(lines)
    usage = " ".join([NAME, name, *(called(p) if p.required else f"[{called(p)}]" for p in arguments), "[OPTIONS]"])
    lines += [f"    {usage}", ""]
    function = inspect.unwrap(command.callback)
    hints, defaults = get_type_hints(function), inspect.signature(function).parameters
    if arguments:
        lines += ["| argument | |", "|---|---|"]
        lines += [f"| `{called(p)}` | {cell(p.help)} |" for p in arguments] + [""]
    lines += ["| option | value | default | |", "|---|---|---|---|"]
    for parameter in options:
        names = ", ".join(f"`{opt}`" for opt in (*parameter.opts, *parameter.secondary_opts))
        taken = kind(hints[parameter.name], parameter.help)
        lines.append(f"| {names} | {taken} | {default(defaults[parameter.name].default, parameter)} | {cell(parameter.help)} |")
    shown = re.findall(r"^\$ (.*)$", command.epilog or "", re.MULTILINE)
    return "\n".join([*lines, "", "```sh", *shown, "```", ""])


def called(argument: Any) -> str:
    """An argument's name in capitals."""
    return str(argument.metavar or argument.name).upper()


def kind(hint: Any, text: str) -> str:
    """What an option takes, in a word; one that may be given several times says so, here or in its help."""
    (inner,) = {k for k in (get_args(hint) or (hint,)) if k is not type(None)}
    if not get_args(inner):
        return KINDS[inner]
    told = "repeatable" in text or "several times" in text
    return KINDS[get_args(inner)[0]] + ("" if told else ", repeatable")


def default(value: Any, parameter: Any) -> str:
    """The value of an option that is left out; of a flag that is on, its name."""
    if value is inspect.Parameter.empty:
        return "required"
    if value is None or value is False:
        return ""
    return f"`{parameter.opts[0] if value is True else value}`"


def code_of(text: str) -> str:
    """Help text as Markdown: ``code`` in one backtick."""
    return re.sub(r"``([^`]+)``", r"`\1`", " ".join(text.split()))


def cell(text: str) -> str:
    return code_of(text).replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the reference of the command line, or check that it is fresh.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the page is stale")
    made = page()
    if parser.parse_args().check:
        if PAGE.read_text(encoding="utf-8") != made:
            sys.exit(f"{PAGE} is stale: python tools/site/command_line.py writes it anew")
    else:
        PAGE.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
