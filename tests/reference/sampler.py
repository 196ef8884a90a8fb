"""The draw once more in numpy: Philox by columns, filters by sorting, no pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable


def philox4x32_10(counter: np.ndarray[Any, Any], key: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Blocks of Philox4x32-10 for counters ``[n, 4]`` (uint64 holding 32 bits each)."""
    mask = np.uint64(0xFFFFFFFF)
    c = counter.astype(np.uint64)
    k = [np.uint64(key[0]), np.uint64(key[1])]
    for _ in range(10):
        first = c[:, 0] * np.uint64(0xD2511F53)
        second = c[:, 2] * np.uint64(0xCD9E8D57)
        c = np.stack(
            [(second >> np.uint64(32)) ^ c[:, 1] ^ k[0], second & mask, (first >> np.uint64(32)) ^ c[:, 3] ^ k[1], first & mask], axis=1
        )
        k = [(k[0] + np.uint64(0x9E3779B9)) & mask, (k[1] + np.uint64(0xBB67AE85)) & mask]
    return c


def exponentials(seed: int, stream: int, position: int, n: int) -> np.ndarray[Any, Any]:
    blocks = (n + 3) // 4
    counter = np.zeros((blocks, 4), np.uint64)
    counter[:, 0] = np.arange(blocks)
    counter[:, 1] = position
    counter[:, 2] = stream & 0xFFFFFFFF
    counter[:, 3] = stream >> 32
    r = philox4x32_10(counter, (seed & 0xFFFFFFFF, seed >> 32)).reshape(-1)[:n]
    v = np.minimum(((r.astype(np.float64) + 0.5) * 2.0**-32).astype(np.float32), np.float32(1 - 2.0**-24))
    return -np.log1p(-v.astype(np.float64))


def kept(
    logits: Any,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    banned: Iterable[int] = (),
) -> np.ndarray[Any, Any]:
    """Which ids may be drawn, as a mask."""
    x = np.asarray(logits, np.float64).copy()
    x[list(banned)] = -np.inf
    keep = x > -np.inf
    if top_k is not None and top_k < keep.sum():
        keep &= x >= np.sort(x)[::-1][top_k - 1]
    if top_p is not None and top_p < 1:
        order = np.argsort(-x, kind="stable")
        order = order[keep[order]]
        w = np.exp((x[order] - x.max()) / temperature)
        reached = int(np.argmax(np.cumsum(w) >= top_p * w.sum()))
        keep &= x >= x[order[reached]]
    if min_p is not None and min_p > 0:
        keep &= np.exp((np.where(keep, x, -np.inf) - x.max()) / temperature) >= min_p
    return keep


def draw(logits: Any, temperature: float, seed: int, stream: int, position: int, **filters: Any) -> tuple[int, float, float]:
    """Token, raw log-probability, sampling log-probability."""
    x = np.asarray(logits, np.float64)
    raw = x - x.max()
    raw = raw - np.log(np.exp(raw).sum())
    if temperature <= 1e-6:
        allowed = x.copy()
        allowed[list(filters.get("banned", ()))] = -np.inf
        token = int(allowed.argmax())
        return token, float(raw[token]), 0.0
    keep = kept(x, temperature, **filters)
    scaled = np.where(keep, x / temperature, -np.inf)
    token = int((scaled - np.log(exponentials(seed, stream, position, len(x)))).argmax())
    shifted = scaled - scaled.max()
    return token, float(raw[token]), float(shifted[token] - np.log(np.exp(shifted).sum()))


def fnv1a(data: bytes) -> int:
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return h
