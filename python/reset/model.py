"""Models: a checkpoint, its tokenizer, and the core that runs it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from reset import _core
from reset._checks import flag, integer, path_like, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from reset._sequences import Prompt
    from reset.text import Tokenizer

__all__ = ["Model", "ModelCache", "load", "model_cache", "resolve_model"]


class PromptTooLong(ValueError):
    """A prompt that leaves no room for an answer in the model's context. ``token_ids`` are the prompt's."""

    def __init__(self, token_ids: list[int], positions: int) -> None:
        super().__init__(f"the prompt has {len(token_ids)} tokens, and the model has {positions} positions for prompt and answer together")
        self.token_ids = token_ids


class Model:
    """A loaded model. Made by :func:`load`.

    Attributes:
        name: The path, hub id or name ("tiny") it was loaded by.
        config: ``config.json`` as a dict.
        generation_config: ``generation_config.json`` as a dict, empty without one.
        tokenizer: The checkpoint's tokenizer, or None.
        folder: Where its files are.
        eos_ids: Ids that end a sequence: generation_config's ``eos_token_id``, else config.json's, else the tokenizer's.
        device: Where it runs: "cpu" or "cuda:N".
        weights, activations, lm_head, kv: What is held and how it is computed with.
    """

    def __init__(
        self,
        core: _core.Model,
        *,
        name: str,
        tokenizer: Tokenizer | None,
        generation_config: dict[str, Any],
        eos_ids: Sequence[int],
        folder: Path,
        recipe: Mapping[str, str | None] | None = None,
        device: str = "cpu",
    ) -> None:
        self.core = core
        self.name = name
        self.folder = folder
        self._recipe = dict(recipe or {})
        self.tokenizer = tokenizer
        self.device = device
        self.config: dict[str, Any] = core.config
        self.generation_config = generation_config
        self.weights = core.weights
        self.activations = core.activations
        self.lm_head = core.lm_head
        self.kv = core.kv
        self.eos_ids = list(eos_ids)
        self._fingerprint: str | None = None
        self._banned: list[int] | None = None
        self._boundaries: tuple[list[int], list[int]] | None = None

    def logits(self, token_ids: ArrayLike) -> NDArray[np.float32]:
        """Next-token logits at every position: float32 ``[T, vocab]`` for ``T`` token ids."""
        return self.core.logits(as_ids(token_ids, self))

    def footprint(self) -> dict[str, int]:
        """Bytes held per part: embedding (0 where the head's rows serve), attention, mlp, norms, lm_head. Their sum is what weights take;
        the cache of a sequence grows by :attr:`kv_bytes_per_token`.
        """
        return {name: size for name, size in self.core.footprint().items() if name not in ("weights", "kv_per_token")}

    @property
    def fingerprint(self) -> str:
        """A hash of the checkpoint's files (:mod:`reset.fingerprint`): the same wherever they lie and by whatever name."""
        if self._fingerprint is None:
            from reset.fingerprint import checkpoint_fingerprint

            self._fingerprint = checkpoint_fingerprint(self.folder)
        return self._fingerprint

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes that one token of one sequence takes in the key-value cache."""
        return self.core.footprint()["kv_per_token"]

    @property
    def vocab_size(self) -> int:
        """Width of the logits."""
        return self.core.vocab_size

    @property
    def max_positions(self) -> int:
        """Longest sequence (prompt and generated tokens) that the model has positions for."""
        return self.core.max_positions

    @property
    def banned_ids(self) -> list[int]:
        """Ids that the logits have and the tokenizer cannot decode; they are never drawn."""
        if self._banned is None:
            self._banned = [] if self.tokenizer is None else self.tokenizer.undecodable(self.vocab_size).tolist()
        return self._banned

    def step_boundaries(self) -> tuple[list[int], list[int]]:
        """Single and double newline ids of the tokenizer; empty without one."""
        if self._boundaries is None:
            if self.tokenizer is None:
                self._boundaries = ([], [])
            else:
                from reset.boundaries import step_boundaries

                self._boundaries = step_boundaries(self.tokenizer)
        return self._boundaries

    def encode_prompt(self, prompt: Prompt, *, chat: bool | str = "auto", thinking: bool | None = None) -> list[int]:
        """Token ids of ``prompt`` as :func:`reset.generate` sees them."""
        if isinstance(prompt, str) or (len(prompt) > 0 and isinstance(prompt[0], Mapping)):
            ids = self._encode_text(cast("str | Sequence[Mapping[str, Any]]", prompt), chat=chat, thinking=thinking)
        else:
            if chat is True:
                raise ValueError("chat = True needs text or messages, and the prompt is token ids")
            if thinking is not None:
                raise ValueError("thinking is an option of the chat template, and the prompt is token ids")
            ids = [int(i) for i in prompt]  # type: ignore[arg-type]
        if not ids:
            raise ValueError("the prompt has no tokens: give at least one character or id")
        wrong = next((i for i in ids if not 0 <= i < self.vocab_size), None)
        if wrong is not None:
            raise ValueError(f"the prompt holds token id {wrong}, and the model's vocabulary has {self.vocab_size} entries")
        if len(ids) >= self.max_positions:
            raise PromptTooLong(ids, self.max_positions)
        return ids

    def _encode_text(self, prompt: str | Sequence[Mapping[str, Any]], *, chat: bool | str, thinking: bool | None) -> list[int]:
        if self.tokenizer is None:
            raise ValueError(f"{self.name} has no tokenizer.json: give token ids instead of text")
        if isinstance(prompt, str):
            templated = self.tokenizer.has_chat_template
            if chat is True and not templated:
                raise ValueError(f"chat = True, and the tokenizer of {self.name} has no chat template; use chat = False")
            if not prompt.isprintable() and any("\ud800" <= c <= "\udfff" for c in prompt):
                raise ValueError("the prompt holds half a surrogate pair (bytes that were no UTF-8?): give valid text")
            if chat is False or not templated:
                if thinking is not None:
                    raise ValueError("thinking is an option of the chat template, and the prompt is taken as it is")
                return self.tokenizer.encode(prompt)
            prompt = [{"role": "user", "content": prompt}]
        elif chat is False:
            raise ValueError("chat = False takes a string as it is, and the prompt is a list of messages")
        return self.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, enable_thinking=thinking)

    def describe(self) -> dict[str, Any]:
        """What runs, as JSON values: kept in every result."""
        from reset import __version__

        return {
            "model": self.name, "weights": self.weights, "activations": self.activations, "lm_head": self.lm_head, "kv": self.kv,
            "calibration": self.core.calibration, **self._recipe, "device": self.device, "table": self.core.table,
            "reset_version": __version__,
        }  # fmt: skip

    def _repr_html_(self) -> str:
        from reset.views import model_html

        return model_html(self)

    def __repr__(self) -> str:
        scales = "" if self.core.calibration is None else f" (input scales {self.core.calibration})"
        return (
            f"Model({self.name!r}: {self.core.architecture}, weights {self.weights}, lm_head {self.lm_head}, "
            f"activations {self.activations}{scales}, kv {self.kv}, {self.device} ({self.core.table}, {self.core.threads} threads), "
            f"{sum(self.footprint().values()) / 1e6:.1f} MB)"
        )


def as_ids(token_ids: ArrayLike, model: Model) -> list[int]:
    """Token ids as a list of int: TypeError for anything but a 1-D sequence of integers, ValueError for what the model cannot read."""
    try:
        array = np.asarray(token_ids)
    except ValueError:  # sequences of unequal length
        raise TypeError("token_ids: expected a 1-D sequence of integers, found sequences in a sequence") from None
    if array.size == 0:
        raise ValueError("token_ids is empty: give at least one token id")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"token_ids: expected a 1-D sequence of integers, found {array.dtype} of shape {array.shape}")
    for index in np.flatnonzero((array < 0) | (array >= model.vocab_size)):
        raise ValueError(f"token_ids: {array[index]} at index {index} is no id of this model: they are below {model.vocab_size}")
    if len(array) > model.max_positions:
        raise ValueError(f"token_ids: {len(array)} tokens, and the model has {model.max_positions} positions; shorten them")
    return [int(i) for i in array]


def load(
    path_or_hub_id: str | Path,
    *,
    weights: str = "auto",
    activations: str = "auto",
    method: str = "nearest",
    lm_head: str = "auto",
    kv: str = "auto",
    calibration: Sequence[str] | str | None = None,
    device: str = "auto",
    threads: int | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> Model:
    """Loads a Hugging Face checkpoint: BF16/F16/F32, ModelOpt NVFP4 or compressed-tensors NVFP4.

    Args:
        path_or_hub_id: A directory with config.json and safetensors, a hub id (needs the extra ``hub``), or ``"tiny"``: the small
            reasoning model inside this package (:mod:`reset.models`); a folder of that name is ``"./tiny"``.
        weights: "auto" keeps what the checkpoint holds (F32 and F16 exactly); "bf16"; "nvfp4" quantizes while loading.
        activations: "float" computes in float32; "nvfp4" quantizes the inputs of every NVFP4 linear; "auto" keeps what the checkpoint says.
        method: Recipe for ``weights="nvfp4"``: "nearest", "four_over_six" or "sweep".
        lm_head: "auto" | "bf16" | "nvfp4".
        kv: Key-value cache: "auto" (bf16 unless the checkpoint says otherwise) | "f32" | "bf16" | "fp8" | "nvfp4".
        calibration: Texts on which missing input scales are measured for ``activations="nvfp4"``; None takes a few built-in ones,
            "dynamic" uses one tensor scale per row instead.
        device: "auto" and "cpu": this machine's CPU. "cuda" or "cuda:N": an NVIDIA device; see docs/cuda.md for what it needs and where it
            differs.
        threads: Threads of the decode pool; None takes what the machine allows.
        revision, local_files_only: Passed to the hub.

    Raises:
        FileNotFoundError: no such folder, or a file that is missing in it.
        reset.CheckpointError, reset.FormatError, reset.ConfigError: files that cannot be read, formats that are not understood,
            configurations that this package does not run. The message names file and tensor or field.
        reset.DeviceError: no such device, or what it needs is missing.
        ValueError: an option that is not possible, or does not go with another.
    """
    from reset._cuda import device_place
    from reset.calibration_texts import calibration_ids
    from reset.hub import resolve
    from reset.models import model_name
    from reset.text import Tokenizer, eos_token_ids, read_json_object

    name = path_like("path_or_hub_id", path_or_hub_id)
    if not name.strip():
        raise ValueError(f"path_or_hub_id = {name!r} is not possible: give a folder, a hub id such as 'Qwen/Qwen3-8B', or 'tiny'")
    for option, given in (("weights", weights), ("activations", activations), ("method", method), ("lm_head", lm_head), ("kv", kv)):
        text(option, given)
    if revision is not None:
        text("revision", revision)
    local_files_only = flag("local_files_only", local_files_only)
    cuda = device_place(device, automatic=("auto",))
    if threads is not None:
        threads = integer("threads", threads, high=1025)
    path = resolve(path_or_hub_id, revision=revision, local_files_only=local_files_only)
    tokenizer = Tokenizer.from_dir(path)
    dynamic = calibration == "dynamic"
    if isinstance(calibration, str) and not dynamic:
        raise ValueError("calibration is a list of texts, 'dynamic', or None; found a single string")
    generation_config = read_json_object(path / "generation_config.json") or {}
    eos_ids = tokenizer.eos_token_ids if tokenizer is not None else eos_token_ids(path) or ()
    core = _core.Model.load(
        str(path),
        weights=weights,
        activations=activations,
        method=method,
        lm_head=lm_head,
        kv=kv,
        calibration="dynamic" if dynamic else calibration_ids(tokenizer, calibration),
        threads=threads,
        cuda=cuda,
    )
    # What the core does not tell of the way from files to weights, for the records of results.
    recipe = {
        "method": method if weights == "nvfp4" else None,
        "calibration_sha256": None if calibration is None or dynamic else _texts_sha256(calibration),
    }
    name = model_name(path_or_hub_id)
    return Model(
        core,
        name=name,
        tokenizer=tokenizer,
        generation_config=generation_config,
        eos_ids=eos_ids,
        folder=path,
        recipe=recipe,
        device="cpu" if cuda is None else f"cuda:{cuda[0]}",
    )


def _texts_sha256(texts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for one in texts:
        encoded = one.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()[:16]


class ModelCache:
    """Models loaded by path or name in :func:`reset.generate`, kept until :meth:`clear`."""

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}

    def get(self, path: str | Path) -> Model:
        """The model of ``path``, loaded at the first call."""
        from reset.models import is_shipped

        path_like("model", path)
        key = str(path) if is_shipped(path) or not Path(path).exists() else str(Path(path).absolute())
        if key not in self._models:
            self._models[key] = load(path)
        return self._models[key]

    def clear(self) -> None:
        """Lets go of every model."""
        self._models.clear()

    def __len__(self) -> int:
        return len(self._models)


model_cache = ModelCache()


def resolve_model(model: Model | str | Path) -> Model:
    """A Model as it is; a path, hub id or "tiny" through the cache."""
    if isinstance(model, Model):
        return model
    return model_cache.get(model)
