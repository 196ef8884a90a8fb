"""Folders and hub ids, without a network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from reset.hub import UNWANTED, WANTED, resolve


class Download:
    """Stands in for ``snapshot_download``: remembers how it was called, then returns or raises."""

    def __init__(self, outcome: str | Exception) -> None:
        self.outcome = outcome
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, **options: Any) -> str:
        self.calls.append((name, options))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def stand_in(monkeypatch: pytest.MonkeyPatch, outcome: str | Exception) -> Download:
    download = Download(outcome)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return download


def hub_error(kind: type[Exception]) -> Exception:
    """The hub's errors want an HTTP response; its message is all that matters here."""
    error = kind.__new__(kind)
    Exception.__init__(error, "404 from the hub")
    return error


def test_folder_wins_over_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download = stand_in(monkeypatch, "unused")
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve("owner/name") == Path("owner/name")
    assert resolve(tmp_path / "owner") == tmp_path / "owner"
    assert download.calls == []
    with pytest.raises(ValueError, match="revision='v1' belongs to a hub id"):
        resolve("owner/name", revision="v1")


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert resolve("~/model") == tmp_path / "model"


def test_hub_id_is_downloaded_with_what_is_needed_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download = stand_in(monkeypatch, str(tmp_path))
    assert resolve("Qwen/Qwen3-0.6B", revision="main", local_files_only=True) == tmp_path
    ((name, options),) = download.calls
    assert name == "Qwen/Qwen3-0.6B"
    assert (options["revision"], options["local_files_only"]) == ("main", True)
    repository = [
        "config.json", "generation_config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.json",
        "tokenizer_config.json", "chat_template.jinja", "additional_chat_templates/rag.jinja", "hf_quant_config.json",
        "consolidated.safetensors", "original/model.safetensors", "pytorch_model.bin", "README.md", "model.gguf", "modeling_own.py",
    ]  # fmt: skip
    from huggingface_hub.utils import filter_repo_objects

    chosen = list(filter_repo_objects(repository, allow_patterns=options["allow_patterns"], ignore_patterns=options["ignore_patterns"]))
    assert chosen == repository[:9]
    assert (tuple(options["allow_patterns"]), tuple(options["ignore_patterns"])) == (WANTED, UNWANTED)


@pytest.mark.parametrize("name", ["nowhere", "./a/b", "a/b/c", "/tmp/no/such/folder", "a b/c", "../x", "owner/", "C:\\x\\y"])
def test_what_is_no_hub_id_is_a_missing_folder(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    download = stand_in(monkeypatch, "unused")
    with pytest.raises(FileNotFoundError, match="no such folder, and not a hub id either"):
        resolve(name)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        resolve(Path("owner/name"))  # a Path is never a hub id
    assert download.calls == []


def test_file_is_not_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(NotADirectoryError, match="pass the folder that holds"):
        resolve(file)


@pytest.mark.parametrize(
    ("error", "kind", "complaint"),
    [
        (hub_error(errors.GatedRepoError), PermissionError, r"accept the terms at https://huggingface\.co/a/b"),
        (hub_error(errors.RepositoryNotFoundError), FileNotFoundError, "no such repository on the hub"),
        (hub_error(errors.RevisionNotFoundError), FileNotFoundError, "no revision 'v9' of it"),
        (errors.HFValidationError("bad id"), FileNotFoundError, "not a hub id either"),
        (
            hub_error(errors.LocalEntryNotFoundError),
            FileNotFoundError,
            "at revision 'v9': not a folder .* the hub cannot be reached",
        ),
        (errors.OfflineModeIsEnabled("offline"), FileNotFoundError, "the hub cannot be reached"),
        (hub_error(errors.HfHubHTTPError), OSError, "the hub answered with an error: 404 from the hub"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_errors_of_the_hub_say_what_to_do(monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], complaint: str) -> None:
    stand_in(monkeypatch, error)
    with pytest.raises(kind, match=complaint) as caught:
        resolve("a/b", revision="v9")
    assert str(caught.value).startswith("a/b")


def test_offline_by_request_names_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, hub_error(errors.LocalEntryNotFoundError))
    with pytest.raises(FileNotFoundError, match="local_files_only=True forbids to download it"):
        resolve("a/b", local_files_only=True)


def test_cache_is_read_by_the_real_library_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="not in the hub's cache"):
        resolve("owner/not-there", local_files_only=True)


def test_missing_hub_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FileNotFoundError, match=r"pip install 'reset-nvfp4\[hub\]'"):
        resolve("owner/name")
