"""The draw and its random numbers, as functions of arrays.

``reset.generate`` draws this way inside; these helpers are for oracles, for tests, and for sampling loops of one's own. A
draw is ``argmax over the kept ids of x / T − ln E``, where ``E`` are exponential numbers that depend on seed, stream,
position and id only (Philox4x32-10), so it does not matter where and in which batch it is made:

>>> import numpy as np
>>> from reset import sampling
>>> logits = np.array([0.0, 2.0, 1.0, -np.inf], np.float32)
>>> drawn = sampling.draw(logits, temperature=0.8, seed=1, stream=7, position=0)
>>> scores = logits / 0.8 - np.log(sampling.exponentials(seed=1, stream=7, position=0, n=4))
>>> drawn.token == int(scores.argmax())
True
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_dtypes
import numpy as np

from reset import _core
from reset._checks import integer, number, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["FILTERS", "Draw", "draw", "entropy", "exponentials", "stream_of_evaluate", "stream_of_generate"]

#: Filters in the order of application, each with one sentence.
FILTERS: dict[str, str] = dict(_core.sampler_filters())


class Draw(NamedTuple):
    """One drawn token.

    Attributes:
        token: its id.
        logprob: its log-probability in the raw distribution, nats.
        sampling_logprob: its log-probability after temperature and filters, nats; 0.0 when greedy.
    """

    token: int
    logprob: float
    sampling_logprob: float


def draw(
    logits: Any,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    seed: int = 0,
    stream: int = 0,
    position: int = 0,
    banned: Iterable[int] = (),
) -> Draw:
    """Draws one token.

    Args:
        logits: raw logits ``[vocab]``, float32, float16 or bfloat16; ``-inf`` is never drawn.
        temperature: at most 1e-6 takes the most probable id, the lowest of equals.
        top_k: keep this many most probable ids; ties with the last one stay.
        top_p: then keep the most probable ids until their mass, after temperature and over what ``top_k`` kept, first reaches
            ``top_p``; ties with the last one stay. 1 keeps all.
        min_p: then keep ids at least this probable relative to the most probable one, after temperature.
        seed: 64 bits: the key of the random numbers.
        stream: 64 bits: which sequence; see :func:`stream_of_generate`.
        position: 32 bits: tokens generated before this one.
        banned: ids never drawn, which take part in no filter. ``logprob`` still belongs to the whole distribution.

    Raises:
        ValueError: an option outside its range, logits with NaN or ``+inf``, or nothing left to draw.
    """
    rows, dtype, shape = _rows(logits)
    if len(shape) != 1:
        raise ValueError(f"logits: shape {shape}, expected [vocab]")
    if not shape[0]:
        raise ValueError("logits are empty; expected one logit per token of the vocabulary")
    temperature = number("temperature", temperature)
    top_k = None if top_k is None else integer("top_k", top_k)
    top_p = None if top_p is None else number("top_p", top_p, wanted="a number, or None")
    min_p = None if min_p is None else number("min_p", min_p, wanted="a number, or None")
    key = _bits("seed", seed, 64), _bits("stream", stream, 64), _bits("position", position, 32)
    ids = _ids("banned", banned)
    return Draw(*_core.sampler_draw(rows, dtype, temperature, top_k, top_p, min_p, *key, ids))


def exponentials(seed: int, stream: int, position: int, n: int) -> NDArray[np.float64]:
    """The exponential numbers ``E`` of ids 0 to ``n − 1``, float64 ``[n]``.

    ``E = −log1p(−v)``; ``v = min((r + ½)·2⁻³², 1 − 2⁻²⁴)`` rounded once to float32; ``r`` is word ``id & 3`` of Philox4x32-10 with
    key ``seed`` and counter ``(id >> 2, position, stream & 0xffffffff, stream >> 32)``, low words first.
    """
    key = _bits("seed", seed, 64), _bits("stream", stream, 64), _bits("position", position, 32)
    return _core.sampler_exponentials(*key, _bits("n", n, 32))


def stream_of_generate(prompt_ids: Sequence[int], sample_index: int) -> int:
    """The stream of one sample of a prompt, as ``reset.generate`` uses it.

    FNV-1a (64 bits) of ``b"generate"``, the number of prompt ids (u64), each id (u32) and the sample index (u64), little-endian.
    """
    return _core.stream_of_generate(_ids("prompt_ids", prompt_ids), _bits("sample_index", sample_index, 64))


def stream_of_evaluate(task: str, problem_id: str, sample_index: int) -> int:
    """The stream of one sample of a task's problem, as ``reset.evaluate`` uses it: independent of the prompt's wording.

    FNV-1a (64 bits) of ``b"evaluate"``, then of task and problem id their UTF-8 length (u64) and bytes, and the sample index (u64),
    little-endian.
    """
    return _core.stream_of_evaluate(text("task", task), text("problem_id", problem_id), _bits("sample_index", sample_index, 64))


def entropy(logits: Any) -> NDArray[np.float64]:
    """Entropy in nats of ``softmax(logits)`` over the last dimension, rounded to float32: the quantity policies see.

    Args:
        logits: raw logits ``[..., vocab]``, float32, float16 or bfloat16 (numpy, torch, or what numpy can convert).

    Returns:
        float64 ``[...]``.

    Raises:
        ValueError: NaN, ``+inf`` or no finite entry in a row; the message names it.
    """
    rows, dtype, shape = _rows(logits)
    if not shape:
        raise ValueError("logits: a single number, expected [..., vocab]")
    return _core.logits_entropy(rows, dtype, shape[-1]).reshape(shape[:-1])


def _bits(name: str, value: Any, bits: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} = {value!r} is not possible: give an integer")
    found = int(value.__index__())
    if not 0 <= found < 1 << bits:
        raise ValueError(f"{name} = {found} is not possible: it has to be 0 or more and below 2**{bits}")
    return found


def _ids(name: str, ids: Iterable[int]) -> list[int]:
    if isinstance(ids, (str, bytes)) or not hasattr(ids, "__iter__"):
        raise TypeError(f"{name} = {ids!r} is not possible: give token ids (a list of int)")
    return [_bits(name, id, 32) for id in ids]


def _rows(logits: Any) -> tuple[NDArray[np.float32] | NDArray[np.uint16], str, tuple[int, ...]]:
    """Flat contiguous values, the dtype they mean, and the shape. Short floats travel as their bits."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(logits, torch.Tensor):
        tensor = logits.detach().cpu()
        array = tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16) if tensor.dtype == torch.bfloat16 else tensor.numpy()
    elif hasattr(logits, "__dlpack__") and not isinstance(logits, np.ndarray):
        array = np.from_dlpack(logits)
    else:
        try:
            array = np.asarray(logits)
        except ValueError:  # rows of unequal length
            raise TypeError("logits: expected an array, found sequences of unequal length") from None
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    name = array.dtype.name
    if name in ("float16", "bfloat16"):
        return np.ascontiguousarray(array).reshape(-1).view(np.uint16), name, array.shape
    if name == "float64" or array.dtype.kind in "iu":
        with np.errstate(over="ignore"):  # becomes infinite, and is refused by name
            array = array.astype(np.float32)
    elif name != "float32":
        raise TypeError(f"logits: dtype {name}, expected float32, float16 or bfloat16")
    return np.ascontiguousarray(array).reshape(-1), "float32", array.shape
