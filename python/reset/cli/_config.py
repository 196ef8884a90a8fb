"""``--config FILE``: options of a command, written down as TOML.

    # eval.toml                                   reset-nvfp4 eval --config eval.toml
    model = "tiny"                                reset-nvfp4 eval --config eval.toml --seed 1
    task = "arithmetic"
    n_samples = 4
    t_low = 0.3
    tau_0 = 0.5

A key is the long name of an option with underscores for hyphens, or the name of an argument; a value is what the option takes, a list where
it may be repeated. What stands on the command line wins. Paths are looked for beside the file, so that it can be moved with its data.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from reset.cli._complete import toml_files
from reset.errors import ConfigError
from reset.toml_file import read_toml

#: Options that say what to print or where this file is, not what to run.
NOT_IN_A_FILE = ("config", "show", "as_json", "context", "help")
#: Texts that may name a file or folder as well as something else.
MAYBE_PATHS = ("model", "preset")


def _read(context: typer.Context, file: Path | None) -> Path | None:
    """Makes the file's values the defaults of the command. Runs before the other options are read."""
    if file is None or context.resilient_parsing:
        return file
    file = file.expanduser()
    hints = get_type_hints(inspect.unwrap(context.command.callback))  # type: ignore[arg-type]
    known = {_key(parameter): parameter.name for parameter in context.command.params if parameter.name not in NOT_IN_A_FILE}
    values = {}
    for key, value in read_toml(file, "options").items():
        if key not in known:
            raise ConfigError(f"{file}: unknown key {key!r}; {context.info_name} takes {', '.join(known)}")
        name = str(known[key])
        values[name] = _checked(value, hints[name], key, file)
    context.default_map = values
    return file


Config = Annotated[
    Path | None,
    typer.Option(
        "--config", is_eager=True, callback=_read, autocompletion=toml_files, help="TOML file of options; the command line wins over it."
    ),
]


def _key(parameter: Any) -> str:
    """``--apply-chat-template`` is ``apply_chat_template`` in a file; an argument is called as it is."""
    longest = max(parameter.opts, key=len)
    return str(longest).lstrip("-").replace("-", "_")


def _checked(value: Any, hint: Any, key: str, file: Path) -> Any:
    """``value`` if it is of the option's kind. Left to click, 2.5 may become 2 and true 1, and no error would name the file."""
    kinds = {kind for kind in (get_args(hint) or (hint,)) if kind is not type(None)}
    (kind,) = kinds
    fits = {
        bool: isinstance(value, bool),
        int: isinstance(value, int) and not isinstance(value, bool),
        float: isinstance(value, (int, float)) and not isinstance(value, bool),
        str: isinstance(value, str),
        Path: isinstance(value, str),
    }
    names = {bool: "true or false", int: "an integer", float: "a number", str: "a text", Path: "a path as text"}
    if not fits[kind]:
        raise ConfigError(f"{file}: {key} = {value!r} is not possible: expected {names[kind]}")
    if kind is Path:
        return str(file.absolute().parent / Path(value).expanduser())
    if key in MAYBE_PATHS:
        beside = file.absolute().parent / Path(value).expanduser()
        return str(beside) if beside.exists() and value != "tiny" else value
    return value


def one_way(context: typer.Context, **temperature: Any) -> dict[str, Any]:
    """Options that set the temperature, when a file sets it in one way and the command line in another: the command line's way.

    ``--temperature`` and ``--preset`` set aside all that the file says about it, ``--tau-0`` a preset or a fixed temperature,
    ``--t-low``, ``--t-high`` and ``--window`` a fixed temperature.
    """
    typed = {name for name in temperature if _source(context, name) == "COMMANDLINE"}
    if typed & {"temperature", "preset"}:
        aside = set(temperature)
    elif "tau_0" in typed:
        aside = {"temperature", "preset"}
    else:
        aside = {"temperature"} if typed else set()
    from_file = {name for name in temperature if _source(context, name) == "DEFAULT_MAP"}
    return {name: None if name in aside & from_file else value for name, value in temperature.items()}


def _source(context: typer.Context, name: str) -> str:
    source = context.get_parameter_source(name)
    return "" if source is None else source.name
