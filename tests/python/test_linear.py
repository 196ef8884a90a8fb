"""reset.nvfp4.linear against a numpy restatement."""

import os

import ml_dtypes
import numpy as np
import pytest

import reset
from reference import linear as oracle

SHAPES = [(1, 16, 16), (1, 40, 208), (3, 17, 64), (5, 33, 1040), (16, 16, 128), (70, 9, 80)]


def operands(m, n, k, seed=0):
    rng = np.random.default_rng([seed, m, n, k])
    x = rng.standard_normal((m, k), np.float32) * np.float32(2) ** rng.integers(-6, 6, (m, 1)).astype(np.float32)
    codes = rng.integers(0, 256, (n, k // 2), np.uint8)
    scales = rng.integers(0, 0x7F, (n, k // 16)).astype(np.uint8)
    return x, reset.nvfp4.NVFP4Tensor(codes, scales, 0.0137)


@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
@pytest.mark.parametrize("input_scale", [None, 0.003, 1e-4])
def test_quantized_activations_equal_the_restatement_bit_for_bit(m, n, k, input_scale):
    x, t = operands(m, n, k)
    if m > 1:
        x[0] = 0
    y = reset.nvfp4.linear(x, t, activations="nvfp4", input_scale=input_scale)
    expected = oracle.w4a4(x, t.codes, t.block_scales, t.tensor_scale, input_scale) if m == 1 or input_scale else None
    if expected is None:  # a row of zeros has scale zero, and no divisor
        assert not y[0].any()
        y, expected = y[1:], oracle.w4a4(x[1:], t.codes, t.block_scales, t.tensor_scale, None)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_float_activations_are_within_the_rounding_of_their_sums(m, n, k):
    x, t = operands(m, n, k)
    y = reset.nvfp4.linear(x, t)
    expected, size = oracle.float64(x, t.codes, t.block_scales, t.tensor_scale)
    assert y.shape == (m, n)
    assert (np.abs(y - expected) <= (16 + 3 + -(-k // 64) + 2) * 2.0**-24 * size).all()


def test_a_divisor_counts_as_its_reciprocal():
    x, t = operands(4, 20, 96)
    divisor = reset.nvfp4.NVFP4Tensor.from_divisor(t.codes, t.block_scales, 77.7)
    multiplier = reset.nvfp4.NVFP4Tensor(t.codes, t.block_scales, np.float32(1) / np.float32(77.7))
    for activations in ("float", "nvfp4"):
        np.testing.assert_array_equal(reset.nvfp4.linear(x, divisor, activations), reset.nvfp4.linear(x, multiplier, activations))


@pytest.mark.parametrize("activations", ["float", "nvfp4"])
def test_half_precision_and_strides_are_widened_exactly(activations):
    x, t = operands(6, 24, 64)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        half = x.astype(dtype)
        expected = reset.nvfp4.linear(half.astype(np.float32), t, activations)
        np.testing.assert_array_equal(reset.nvfp4.linear(half, t, activations), expected)
        strided = np.zeros((12, 128), dtype)[::2, ::2]
        strided[...] = half
        np.testing.assert_array_equal(reset.nvfp4.linear(strided, t, activations), expected)


@pytest.mark.parametrize("activations", ["float", "nvfp4"])
def test_a_row_does_not_depend_on_its_batch_or_on_threads(activations):
    x, t = operands(130, 600, 192)  # large enough for threads; single rows are not
    y = reset.nvfp4.linear(x, t, activations)
    for row in (0, 63, 64, 129):
        np.testing.assert_array_equal(reset.nvfp4.linear(x[row : row + 1], t, activations)[0], y[row])


def test_empty_operands_give_empty_results():
    x, t = operands(2, 8, 32)
    assert reset.nvfp4.linear(x[:0], t).shape == (0, 8)
    none = reset.nvfp4.NVFP4Tensor(t.codes[:0], t.block_scales[:0], 1.0)
    assert reset.nvfp4.linear(x, none).shape == (2, 0)


def test_non_finite_activations_spoil_their_row_only():
    x, t = operands(3, 20, 64)
    expected = reset.nvfp4.linear(x, t, "nvfp4")
    for bad in (np.nan, np.inf, -np.inf):
        broken = x.copy()
        broken[1, 5] = bad
        y = reset.nvfp4.linear(broken, t, "nvfp4")
        assert np.isnan(y[1]).all()
        np.testing.assert_array_equal(y[[0, 2]], expected[[0, 2]])


def test_wrong_arguments_say_what_would_work():
    x, t = operands(2, 8, 32)
    cases = [
        (ValueError, r"expected \[M, 32\].*x\[None\]", (x[0], t), {}),
        (ValueError, r"shape \(2, 16\), expected \[M, 32\]", (x[:, :16], t), {}),
        (ValueError, 'choose "float" or "nvfp4"', (x, t, "fp8"), {}),
        (ValueError, 'give activations="nvfp4"', (x, t), {"input_scale": 1.0}),
        (ValueError, "not a finite positive", (x, t, "nvfp4"), {"input_scale": -1.0}),
        (ValueError, "not a finite positive", (x, t, "nvfp4"), {"input_scale": float("nan")}),
        (ValueError, "use 'cpu', 'cuda' or 'cuda:N'", (x, t), {"device": "tpu"}),
        (TypeError, "float64", (x.astype(np.float64), t), {}),
        (TypeError, "reset.nvfp4.quantize", (x, x), {}),
    ]
    for error, message, args, kwargs in cases:
        with pytest.raises(error, match=message):
            reset.nvfp4.linear(*args, **kwargs)
    flat = reset.nvfp4.NVFP4Tensor(t.codes[0], t.block_scales[0], 1.0)
    with pytest.raises(ValueError, match=r"expected \[N, K\]"):
        reset.nvfp4.linear(x, flat)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_computes_the_same():
    x, t = operands(64, 512, 256)
    expected = reset.nvfp4.linear(x, t)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(reset.nvfp4.linear(x, t), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
