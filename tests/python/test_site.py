"""The documentation's site: what makes its pages, and that the pages name everything there is."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import reset

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools" / "site"
REFERENCE = ROOT / "docs" / "reference" / "python"
#: Subpackages whose public names have to stand in the reference.
PUBLIC = (
    "analysis", "calibration", "generation", "integrations.lm_eval", "integrations.transformers", "integrations.vllm", "model", "nvfp4",
    "plots", "policies", "pytest_plugin", "sampling", "scoring", "statistics", "studies", "tasks", "tuning", "views",
)  # fmt: skip
#: Public to other modules of the package, and nothing a user calls.
INTERNAL = {"calibration.preset", "calibration.FILE_NAME", "model.resolve_model"}


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"site_{name}", TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_of_the_command_line_is_fresh() -> None:
    made = tool("command_line").page()
    kept = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    assert made == kept, "python tools/site/command_line.py writes it anew"


# The Python reference


def directives() -> dict[str, list[str] | None]:
    """``::: NAME`` → the members it lists, or None for all."""
    found: dict[str, list[str] | None] = {}
    for path in REFERENCE.glob("*.md"):
        for name, options in re.findall(r"^::: (\S+)\n((?:    .*\n)*)", path.read_text(encoding="utf-8"), re.MULTILINE):
            members = re.search(r"members: \[(.*)\]", options)
            assert name not in found, f"{name} stands twice"
            found[name] = None if members is None else members[1].split(", ")
    return found


def named() -> set[str]:
    """Every name that the reference shows."""
    shown = set()
    for name, members in directives().items():
        shown.add(name)
        module = sys.modules.get(name)
        if members is not None:
            shown |= {f"{name}.{member}" for member in members}
        elif module is not None:
            shown |= {f"{name}.{member}" for member in module.__all__}
    return shown


def load_public(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"reset.{name}")
    except ImportError as error:
        pytest.skip(f"needs {error.name}")


def test_every_name_at_the_top_stands_in_the_reference() -> None:
    assert {f"reset.{name}" for name in reset.__all__ if name not in ("__version__", "policies", "sampling", "nvfp4")} <= named()


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_of_a_package_stands_in_the_reference(package: str) -> None:
    module = load_public(package)
    shown = named()
    top = {id(getattr(reset, name)) for name in reset.__all__}
    for name in module.__all__:
        if id(getattr(module, name)) not in top and f"{package}.{name}" not in INTERNAL:
            assert f"reset.{package}.{name}" in shown, f"docs/reference/python says nothing about reset.{package}.{name}"


def test_the_reference_names_nothing_that_is_not_there() -> None:
    for name in sorted(named()):
        module, _, last = name.rpartition(".")
        if module == "" or any(name.startswith(f"reset.integrations.{engine}") for engine in ("transformers", "vllm", "lm_eval")):
            continue
        try:
            holder: Any = importlib.import_module(module)
        except ModuleNotFoundError:  # a class
            outer, _, inner = module.rpartition(".")
            holder = getattr(importlib.import_module(outer), inner)
        assert hasattr(holder, last) or importlib.util.find_spec(name) is not None, name


# Docstrings


def test_docstrings_become_markdown() -> None:
    convert = tool("rst").to_markdown
    assert convert("See :func:`~reset.load`.") == 'See <autoref optional identifier="reset.load"><code>load</code></autoref>.'
    assert convert("A :class:`Trace`::\n\n    x") == 'A <autoref optional identifier="reset.Trace"><code>Trace</code></autoref>:\n\n    x'
    assert convert("So:\n\n>>> 1\n1\n\nEnd.") == "So:\n\n```pycon\n>>> 1\n1\n```\n\nEnd."
    assert (
        convert("Args:\n    x: as ``x``\n\n    >>> f(x)\n    2") == "Args:\n    x: as ``x``\n\n    ```pycon\n    >>> f(x)\n    2\n    ```"
    )


def test_several_parameters_in_one_entry_get_one_each() -> None:
    convert = tool("rst").apart
    text = "Does it.\n\nArgs:\n    x: it\n    a, b: both,\n        long\n    c: other\n\nRaises:\n    E, F: if not"
    assert convert(text) == (
        "Does it.\n\nArgs:\n    x: it\n    a: both,\n        long\n    b: both,\n        long\n    c: other\n\nRaises:\n    E, F: if not"
    )
    assert convert("Args:\n    a, b: x") == "Args:\n    a: x\n    b: x"
    assert convert("Text with a, b: c\n\n    d, e: f") == "Text with a, b: c\n\n    d, e: f"


def test_documentation_of_the_core_is_found_in_rust() -> None:
    """What the site shows is what Python shows."""
    read = tool("rst").rust_docs
    found: dict[str, str] = {}
    for path in sorted((ROOT / "src" / "python").glob("*.rs")):
        found |= read(path.read_text(encoding="utf-8"))
    for name in ("ReSET", "EntropyThreshold", "FixedTemperature", "Greedy", "Policy", "Signal", "Decision", "Snapshot"):
        kind = getattr(reset.policies, name)
        assert inspect.cleandoc(kind.__doc__) == inspect.cleandoc(found[name]), name
    assert inspect.cleandoc(reset.ReSET.preset.__doc__ or "") == inspect.cleandoc(found["ReSET.preset"])


# Links


def test_files_beside_the_documents_are_carried_along() -> None:
    hooks = tool("hooks")
    assert hooks.inside("docs/studies.md", "../examples/study.toml") == "project/examples/study.toml"
    assert hooks.inside("docs/index.md", "../notebooks") == "project/notebooks/README.md"
    assert hooks.inside("docs/index.md", "../examples/train_tiny/log") == ""  # a folder without README
    assert hooks.inside("docs/index.md", "tutorial.md") is None
    assert hooks.inside("docs/index.md", "figures/") == "figures/README.md"
    assert hooks.inside("docs/index.md", "howto") == ""
    assert hooks.inside("CONTRIBUTING.md", "docs/architecture.md") == "architecture.md"
    assert hooks.inside("docs/index.md", "https://arxiv.org") is None
    mend = hooks.mended
    assert mend("[e](../../examples/study.toml#a)", "howto/x.md") == "[e](../project/examples/study.toml#a)"
    assert mend("[c](docs/architecture.md)", "project/CONTRIBUTING.md") == "[c](../architecture.md)"
    assert mend("```\n[e](../examples/study.toml)\n```", "x.md") == "```\n[e](../examples/study.toml)\n```"
    assert mend("**a**\n1. b\n2. c\n", "x.md") == "**a**\n\n1. b\n2. c\n"
    assert mend("- a\n- b\n  c\n- d\n", "x.md") == "- a\n- b\n  c\n- d\n"
    carried = hooks.carried({"docs/x.md": "[n](../notebooks/README.md)"})
    assert "project/notebooks/01_the_format.ipynb" in carried  # linked from what is linked
    assert all(path.is_file() for path in carried.values())


PAGE = '<html><body><h1 id="top">x</h1>{}</body></html>'


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ('<a href="b.html#here">', None),
        ('<a href="#top">', None),
        ('<a href="sub/">', None),
        ('<img src="sub/index.html">', None),
        ('<a href="https://arxiv.org/abs/2606.13233">', None),
        ('<a href="mailto:x@y.org">', None),
        ('<a href="c.html">', "no such file"),
        ('<img src="c.png">', "no such file"),
        ('<a href="b.html#there">', "no such element"),
        ('<a href="#there">', "no such element"),
        ('<a href="../outside.html">', "leads out of the site"),
        ('<a href="http://arxiv.org">', "not https"),
        ('<a href="https://arxiv">', "no host"),
        ('<a href="https://arxiv.org/a b">', "signs that an address cannot have"),
        ('<a href="https://[arxiv.org">', "Invalid IPv6"),
    ],
)
def test_the_checker_of_links_sees_what_leads_nowhere(link: str, said: str | None, tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (tmp_path / "outside.html").touch()
    (site / "a.html").write_text(PAGE.format(link))
    (site / "b.html").write_text(PAGE.format('<p id="here">'))
    (site / "sub" / "index.html").write_text(PAGE.format(""))
    found = tool("links").problems(site)
    if said is None:
        assert found == []
    else:
        (line,) = found
        assert line.startswith("a.html:1: ")
        assert said in line


def test_every_page_stands_in_the_navigation() -> None:
    """mkdocs says so too; this test needs no mkdocs."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"([\w/-]+\.md)$", text[text.index("nav:") : text.index("not_in_nav:")], re.MULTILINE))
    here = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    beside = {name for name in here - listed if name.startswith(("figures/", "study/"))}  # how figures were made, what studies wrote
    assert here - listed == beside
    assert all((ROOT / name.removeprefix("project/")).is_file() for name in listed - here)
