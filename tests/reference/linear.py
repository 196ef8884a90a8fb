"""A numpy restatement of the linear layer: vLLM's quantization of activations, and the order of the sums."""

from __future__ import annotations

import ml_dtypes
import numpy as np

F32 = np.float32


def decode(codes: np.ndarray) -> np.ndarray:
    """Packed E2M1 codes to values, element 2j in the low nibble of byte j."""
    nibbles = np.stack([codes & 15, codes >> 4], axis=-1).reshape(*codes.shape[:-1], -1)
    return nibbles.astype(np.uint8).view(ml_dtypes.float4_e2m1fn).astype(F32)


def quantize_activations(x: np.ndarray, divisor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values in E2M1 and scales in E4M3, both as float32, of ``x`` [M, K] with one divisor (1 / tensor scale) per row."""
    blocks = x.reshape(len(x), -1, 16)
    divisor = divisor.astype(F32)[:, None]
    largest = np.abs(blocks).max(axis=-1)
    scale = divisor * (largest * F32(1 / 6))
    scale = np.minimum(scale, F32(448)).astype(ml_dtypes.float8_e4m3fn).astype(F32)
    factor = scale * (F32(1) / divisor)
    inverse = np.where(factor == 0, F32(0), F32(1) / np.where(factor == 0, F32(1), factor))
    scaled = np.clip(blocks * inverse[..., None], F32(-6), F32(6))
    return scaled.astype(ml_dtypes.float4_e2m1fn).astype(F32).reshape(x.shape), scale


def w4a4(x: np.ndarray, codes: np.ndarray, block_scales: np.ndarray, tensor_scale: float, input_scale: float | None) -> np.ndarray:
    """The layer with quantized activations, bit for bit: exact block products, one chain of float32 sums over ascending blocks."""
    scales = np.full(len(x), input_scale, F32) if input_scale is not None else np.abs(x).max(axis=1) / F32(2688)
    q, s = quantize_activations(x, F32(1) / scales)
    w, sw = decode(codes), block_scales.view(ml_dtypes.float8_e4m3fn).astype(F32)
    blocks = x.shape[1] // 16
    total = np.zeros((len(x), len(w)), F32)
    for b in range(blocks):
        part = slice(16 * b, 16 * b + 16)
        exact = q[:, part].astype(np.float64) @ w[:, part].astype(np.float64).T * s[:, b, None].astype(np.float64) * sw[None, :, b]
        assert (exact.astype(F32) == exact).all()
        total = total + exact.astype(F32)
    return (F32(tensor_scale) * scales)[:, None] * total


def float64(x: np.ndarray, codes: np.ndarray, block_scales: np.ndarray, tensor_scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The layer with float activations in double precision, and the sums of the terms' magnitudes."""
    w = decode(codes).astype(np.float64) * np.repeat(block_scales.view(ml_dtypes.float8_e4m3fn).astype(np.float64), 16, axis=1)
    w *= float(F32(tensor_scale))
    x = x.astype(np.float64)
    return x @ w.T, np.abs(x) @ np.abs(w).T
