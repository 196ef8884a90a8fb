"""The NVFP4 codec: equal to the libraries it names, byte for byte, and clear about what it refuses."""

from __future__ import annotations

import copy
import pickle
import sys
from typing import TYPE_CHECKING, Any

import hypothesis.extra.numpy as hnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reset
from reference import nvfp4 as oracle
from reset.nvfp4 import NVFP4Tensor, quantize

if TYPE_CHECKING:
    from pathlib import Path

FLOATS: list[Any] = [np.float32, np.float16, ml_dtypes.bfloat16]
METHODS = ["nearest", "four_over_six", "sweep"]
DIALECTS = ["modelopt", "compressed-tensors"]
f32 = np.float32


@pytest.fixture(scope="module")
def cases(golden: Path) -> dict[str, dict[str, np.ndarray]]:
    out: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in oracle.load(golden / "nvfp4" / "cases.safetensors").items():
        case, key = name.split("/")
        out.setdefault(case, {})[key] = tensor
    return out


def finite(cases: dict[str, dict[str, np.ndarray]]) -> list[tuple[str, dict[str, np.ndarray]]]:
    return [(n, c) for n, c in cases.items() if "input" in c and np.isfinite(c["input"].astype(f32)).all()]


def weights(shape: tuple[int, ...], dtype: Any = f32, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.02).astype(dtype)


def within_an_ulp(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((np.abs(a.view(np.int32).astype(np.int64) - b.view(np.int32)) <= 1).all() or (np.abs(a - b) <= np.spacing(np.abs(b))).all())


# Equal to the libraries


@pytest.mark.parametrize("dialect", DIALECTS)
def test_nearest_equals_the_golden_cases_byte_for_byte(cases: dict[str, dict[str, np.ndarray]], dialect: str) -> None:
    library = "modelopt" if dialect == "modelopt" else "ct"
    checked = 0
    for name, case in finite(cases):
        if name.startswith("all_zero") and dialect == "modelopt":
            continue  # ModelOpt writes NaN there
        stored = case["modelopt.weight_scale_2" if dialect == "modelopt" else "ct.weight_global_scale"][0]
        scale = None
        if name.startswith("fixed_gs"):
            scale = float(stored) if dialect == "modelopt" else 1 / float(stored)
        t = quantize(case["input"], dialect=dialect, tensor_scale=scale)
        np.testing.assert_array_equal(t.codes, case[f"{library}.packed"], name)
        np.testing.assert_array_equal(t.block_scales, case[f"{library}.scale_u8"], name)
        assert (t.tensor_scale if dialect == "modelopt" else t.divisor) == stored, name
        assert within_an_ulp(t.dequantize(), case[f"{library}.dequant_f32"]), name
        brain = case["modelopt.dequant_bf16" if dialect == "modelopt" else "ct.decompress_bf16"]
        np.testing.assert_array_equal(t.dequantize("bfloat16").astype(f32), brain.astype(f32), name)
        checked += 1
    assert checked >= 22


def test_nearest_equals_the_libraries_on_random_tensors(golden: Path) -> None:
    tensors = oracle.load(golden / "nvfp4" / "libraries.safetensors")
    names = [n.removesuffix(".input") for n in tensors if n.endswith(".input")]
    assert len(names) > 140
    for name in names:
        x = tensors[f"{name}.input"]
        for library, dialect in (("modelopt", "modelopt"), ("ct", "compressed-tensors")):
            for how in ("auto", "given"):
                stored = float(tensors[f"{name}.{library}.{how}.scale"][0])
                multiplier = stored if library == "modelopt" else 1 / stored
                t = quantize(x, dialect=dialect, tensor_scale=multiplier if how == "given" else None)
                where = f"{name} {library} {how}"
                assert (t.tensor_scale if library == "modelopt" else t.divisor) == stored, where
                np.testing.assert_array_equal(t.block_scales, tensors[f"{name}.{library}.{how}.block_scales"], where)
                np.testing.assert_array_equal(t.codes, tensors[f"{name}.{library}.{how}.codes"], where)


def test_four_over_six_equals_its_authors_but_for_minus_zero(cases: dict[str, dict[str, np.ndarray]]) -> None:
    vectors = cases["fouroversix"]
    names = {key.split(".")[0] for key in vectors}
    assert len(names) == 10
    for name in names:
        t = quantize(cases[name]["input"], method="four_over_six")
        codes = oracle.unpack(vectors[f"{name}.mse.packed"])
        np.testing.assert_array_equal(oracle.unpack(t.codes), np.where(codes == 8, 0, codes), name)
        np.testing.assert_array_equal(t.block_scales, vectors[f"{name}.mse.scale_u8"], name)
        assert t.tensor_scale == vectors[f"{name}.mse.amax"][0] / f32(1536), name


def test_every_shared_vector_with_a_library_column_is_among_the_golden_cases(shared: Path, cases: dict[str, dict[str, np.ndarray]]) -> None:
    for path in (shared / "vectors" / "nvfp4").glob("*.safetensors"):
        tensors = oracle.load(path)
        if "modelopt.packed" in tensors:
            np.testing.assert_array_equal(tensors["modelopt.packed"], cases[path.stem]["modelopt.packed"])


def test_the_oracle_decodes_as_torch_and_ml_dtypes_do(golden: Path) -> None:
    tables = oracle.load(golden / "nvfp4" / "tables.safetensors")
    np.testing.assert_array_equal(oracle.E4M3, tables["e4m3_decode_f32"][:127])
    np.testing.assert_array_equal(oracle.E2M1, tables["e2m1_decode_f32"][:8])
    np.testing.assert_array_equal(oracle.E4M3, np.arange(127, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(f32))


def test_values_are_those_of_all_codes_under_all_scales() -> None:
    scales = np.arange(127, dtype=np.uint8).repeat(2)[:, None]
    codes = np.array([[0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE], [0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF]], np.uint8)
    codes = np.tile(codes, (127, 1))
    for t, factor in (
        (NVFP4Tensor(codes, scales, 0.37), oracle.E4M3[scales] * f32(0.37)),
        (NVFP4Tensor.from_divisor(codes, scales, 41216), oracle.E4M3[scales] / f32(41216)),
    ):
        expected = oracle.dequantize(codes, scales, factor)
        np.testing.assert_array_equal(t.dequantize(), expected)
        np.testing.assert_array_equal(t.dequantize("bfloat16"), expected.astype(ml_dtypes.bfloat16))
        np.testing.assert_array_equal(t.dequantize("float16"), expected.astype(np.float16))


# Equal to a restatement, on anything

numbers = st.one_of(
    st.floats(-(2.0**100), 2.0**100, width=32),
    st.floats(-8, 8, width=16),
    st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 2688.0, 448.0, 6.0, -5.0, 3.5, 0.25, 1.1754944e-38]),
)
shapes = st.tuples(st.integers(1, 3), st.sampled_from([16, 32, 48]))


@given(
    x=hnp.arrays(f32, shapes, elements=numbers), dtype=st.sampled_from(FLOATS), scale=st.none() | st.floats(2.0**-100, 2.0**100, width=32)
)
@settings(max_examples=300, deadline=None)
def test_nearest_equals_the_oracle(x: np.ndarray, dtype: Any, scale: float | None) -> None:
    with np.errstate(over="ignore"):
        x = x.astype(dtype)
    x = np.where(np.isfinite(x.astype(f32)), x, x.dtype.type(1))
    if x.astype(f32).any():
        codes, scales, multiplier = oracle.modelopt(x, None if scale is None else f32(scale))
        if multiplier > 0:
            t = quantize(x, tensor_scale=scale)
            assert t.tensor_scale == multiplier
            np.testing.assert_array_equal(t.block_scales, scales)
            np.testing.assert_array_equal(t.codes, codes)
    codes, scales, divisor = oracle.compressed_tensors(x, None if scale is None else f32(1 / scale))
    t = quantize(x, dialect="compressed-tensors", tensor_scale=scale)
    assert t.divisor == divisor
    np.testing.assert_array_equal(t.block_scales, scales)
    np.testing.assert_array_equal(t.codes, codes)


@given(x=hnp.arrays(f32, shapes, elements=st.floats(-8, 8, width=32)), dtype=st.sampled_from(FLOATS))
@settings(max_examples=60, deadline=None)
def test_sweep_finds_the_least_error_and_the_smallest_scale_that_has_it(x: np.ndarray, dtype: Any) -> None:
    x = x.astype(dtype)
    if not x.astype(f32).any():
        return
    t = quantize(x, method="sweep")
    errors = oracle.sweep_errors(x, f32(t.tensor_scale))
    found = np.take_along_axis(errors, t.block_scales[..., None].astype(int) - 1, -1)[..., 0]
    # u = x/S is rounded to float32, and each error, square and sum once more: some 24 roundings of the block's magnitude.
    u = np.abs(oracle._blocks(x)).astype(np.float64).max(-1) / t.tensor_scale
    assert (found <= errors.min(-1) + 24 * 2.0**-24 * (errors.min(-1) + u * np.sqrt(errors.min(-1))) + 2.0**-46 * u * u).all()
    exactly_zero = ~np.abs(oracle._blocks(x)).any(-1)
    assert (t.block_scales[exactly_zero] == 1).all()


def test_sweep_takes_the_smaller_of_scales_that_offer_the_same_values() -> None:
    x = np.zeros((2, 16), f32)
    x[0, 0] = 2688.0  # tensor scale 1
    x[1, :3] = 4.0, 2.0, -8.0  # 8 = 6 · 4/3, or 4 · 2, or 2 · 4 ...; exact from scale 2 on, and 2 is the smallest
    t = quantize(x, method="sweep")
    assert t.block_scales[1].view(ml_dtypes.float8_e4m3fn).astype(f32) == 2.0
    np.testing.assert_array_equal(t.dequantize(), x)


@pytest.mark.parametrize("dtype", FLOATS)
def test_more_search_errs_no_more(dtype: Any) -> None:
    x = weights((64, 256), dtype)
    exact = x.astype(np.float64)
    nearest, four, sweep = (((quantize(x, method=m).dequantize() - exact) ** 2).sum() for m in METHODS)
    assert sweep < four < nearest
    shared_scale = quantize(x).tensor_scale
    assert ((quantize(x, method="sweep", tensor_scale=shared_scale).dequantize() - exact) ** 2).sum() == sweep


@pytest.mark.parametrize("method", ["four_over_six", "sweep"])
def test_the_searches_write_no_minus_zero_and_have_one_arithmetic(method: str) -> None:
    x = weights((32, 64))
    t = quantize(x, method=method)
    assert not (oracle.unpack(t.codes) == 8).any()
    assert (oracle.unpack(quantize(x).codes) == 8).any()
    assert quantize(x, method=method, dialect="compressed-tensors") == t


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("power", [-90, -60, 60, 120])
def test_a_power_of_two_moves_only_the_tensor_scale(method: str, power: int) -> None:
    x = weights((8, 64))
    t, moved = quantize(x, method=method), quantize(np.ldexp(x, power), method=method)
    np.testing.assert_array_equal(moved.block_scales, t.block_scales)
    np.testing.assert_array_equal(moved.codes, t.codes)
    assert moved.tensor_scale == np.ldexp(t.tensor_scale, power)


# Zeros


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_zeros_stay_zeros(dtype: Any, method: str, dialect: str) -> None:
    t = quantize(np.zeros((3, 32), dtype), method=method, dialect=dialect)
    assert t.tensor_scale == 1
    assert not t.codes.any()
    assert (t.block_scales == (0x38 if dialect == "modelopt" else 0x20)).all()
    assert not t.dequantize().any()
    x = weights((4, 32), dtype)
    x[1] = 0
    assert not quantize(x, method=method, dialect=dialect).dequantize()[1].any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_smallest_and_largest_float32_come_back_finite(method: str, dialect: str) -> None:
    for value in (1e-45, 1e-42, 1e-39, 3.4e38, np.finfo(f32).max):
        if dialect == "compressed-tensors" and method == "nearest" and value > 3e38:
            continue  # that library rounds 1/amax as a subnormal number, and its own values overflow
        x = np.full((1, 16), value, f32)
        back = quantize(x, method=method, dialect=dialect).dequantize()
        assert np.isfinite(back).all(), value
        if method != "nearest" or dialect == "modelopt":
            assert (np.abs(back / f32(2) - x / f32(2)) <= x * f32(0.26)).all(), value


# Shapes, strides, owners


def misaligned(x: np.ndarray) -> np.ndarray:
    """The same values one byte off, as in a packed record or a file mapped behind an odd header."""
    raw = np.zeros(x.nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(x.tobytes(), np.uint8)
    out: np.ndarray = np.ndarray(x.shape, x.dtype, buffer=raw.data, offset=1)
    assert not out.flags.aligned
    return out


@pytest.mark.parametrize("dtype", FLOATS)
def test_misaligned_arrays_give_what_aligned_ones_give(dtype: Any) -> None:
    x = weights((3, 32), dtype)
    t = quantize(x)
    assert quantize(misaligned(x)) == t
    np.testing.assert_array_equal(reset.nvfp4.linear(misaligned(x), t), reset.nvfp4.linear(x, t))
    with pytest.raises(ValueError, match=r"out: .* aligned"):
        t.dequantize(dtype, out=misaligned(x))


@pytest.mark.parametrize(
    ("call", "kind", "complaint"),
    [
        (lambda x: quantize(x, method=None), TypeError, r"method = None is not possible: choose 'nearest', 'four_over_six' or 'sweep'"),  # type: ignore[arg-type]
        (lambda x: quantize(x, method=["nearest"]), TypeError, r"method = \['nearest'\]"),  # type: ignore[arg-type]
        (lambda x: quantize(x, dialect=0), TypeError, r"dialect = 0 is not possible: choose 'modelopt' or"),  # type: ignore[arg-type]
        (lambda x: quantize(x, tensor_scale=10**400), ValueError, r"tensor_scale = 10+ is not a finite positive float32"),
        (lambda x: quantize(x).dequantize(out=[0.0]), TypeError, r"out is a list; give a numpy array, float32 of shape \(1, 16\)"),  # type: ignore[arg-type]
    ],
    ids=["method None", "method list", "dialect", "tensor_scale", "out"],
)
def test_arguments_of_another_kind_are_named(call: Any, kind: type[Exception], complaint: str) -> None:
    with pytest.raises(kind, match=complaint):
        call(np.ones((1, 16), f32))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("method", METHODS)
def test_any_shape_and_any_strides_give_what_the_matrix_gives(dtype: Any, method: str) -> None:
    x = weights((6, 5, 32), dtype)
    flat = quantize(x.reshape(30, 32), method=method)
    t = quantize(x, method=method)
    assert (t.shape, t.codes.shape, t.block_scales.shape) == ((6, 5, 32), (6, 5, 16), (6, 5, 2))
    np.testing.assert_array_equal(t.codes.reshape(30, 16), flat.codes)
    for view in (
        np.asfortranarray(x),
        x.transpose(1, 0, 2),
        x[::-1, ::2],
        x[:, :, ::-1],
        x[2:3],
        x[:, :, 16:],
        np.broadcast_to(x[0, 0], (3, 32)),
    ):
        assert quantize(view, method=method) == quantize(view.copy(), method=method)
    one = quantize(x[0, 0, :16], method=method)
    assert (one.shape, one.codes.shape, one.block_scales.shape, one.nbytes) == ((16,), (8,), (1,), 13)
    for empty in ((0, 32), (3, 0), (0,), (2, 0, 16)):
        t = quantize(np.zeros(empty, dtype), method=method)
        assert (t.shape, t.tensor_scale, t.dequantize().shape) == (empty, 1, empty)
    frozen = x.copy()
    frozen.flags.writeable = False
    assert quantize(frozen, method=method) == quantize(x, method=method)


def test_many_runs_and_threads_give_what_single_rows_give() -> None:
    x = weights((700, 112))  # more blocks than a run, and no whole number of groups
    t = quantize(x)
    for row in (0, 291, 292, 293, 699):
        single = quantize(x[row], tensor_scale=t.tensor_scale)
        np.testing.assert_array_equal(t.codes[row], single.codes)
        np.testing.assert_array_equal(t.block_scales[row], single.block_scales)
        np.testing.assert_array_equal(t.dequantize()[row], single.dequantize())


class OnlyDlpack:
    """A tensor that speaks DLPack and nothing else."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.x.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self.x.__dlpack_device__()


def test_dlpack_is_read_in_place() -> None:
    x = weights((4, 32))
    assert quantize(OnlyDlpack(x)) == quantize(x)
    assert quantize(OnlyDlpack(x.T[::2].T[:, :16])) == quantize(x[:, ::2])


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_torch_tensors_are_taken_as_they_are(name: str) -> None:
    torch = pytest.importorskip("torch")
    dtype = getattr(torch, name)
    array = weights((6, 64), {"float32": f32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}[name])
    x = torch.from_numpy(array.astype(f32)).to(dtype)
    expected = quantize(array)
    assert quantize(x) == expected
    assert quantize(torch.nn.Parameter(x)) == expected
    assert quantize(OnlyDlpack(x)) == expected
    assert quantize(x.reshape(64, 6).t().contiguous().t().reshape(6, 64)) == expected
    assert quantize(x.t().contiguous().t()) == expected
    assert quantize(x[::2, :32]) == quantize(array[::2, :32])
    t = NVFP4Tensor(
        torch.from_numpy(expected.codes.copy()),
        torch.from_numpy(expected.block_scales.copy()).view(torch.float8_e4m3fn),
        expected.tensor_scale,
    )
    assert t == expected
    with pytest.raises(TypeError, match="float64"):
        quantize(x.to(torch.float64))
    with pytest.raises(TypeError, match=r"\.cpu\(\)"):
        quantize(x.to("meta"))


# What is refused


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_nan_or_infinity_is_named(dtype: Any, value: float) -> None:
    x = weights((3, 5, 32), dtype)
    x[2, 4, 30:] = value
    x[1, 2, 7] = value
    with pytest.raises(ValueError, match=r"x\[1, 2, 7\] \(element 231 in row-major order\) is (NaN|inf|-inf)"):
        quantize(x)
    with pytest.raises(ValueError, match=r"x\[2, 1, 7\]"):
        quantize(x.transpose(1, 0, 2))


def test_refusals_say_what_would_work(monkeypatch: pytest.MonkeyPatch) -> None:
    x = weights((4, 32))
    with pytest.raises(ValueError, match=r"\(4, 31\).*pad it with 1 zeros"):
        quantize(x[:, :31])
    with pytest.raises(ValueError, match="scalar"):
        quantize(f32(1))
    with pytest.raises(TypeError, match=r"float64.*float32"):
        quantize(x.astype(np.float64))
    with pytest.raises(TypeError, match="int32"):
        quantize(x.astype(np.int32))
    with pytest.raises(TypeError, match="byte order"):
        quantize(x.astype(">f4"))
    with pytest.raises(TypeError, match="byte order"):
        quantize(x.astype(np.float16).astype(">f2"))
    with pytest.raises(TypeError, match="list"):
        quantize([[1.0] * 16])
    with pytest.raises(TypeError, match="NoneType"):
        quantize(None)
    with pytest.raises(ValueError, match=r"method.*nearest.*four_over_six.*sweep"):
        quantize(x, method="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"dialect.*modelopt.*compressed-tensors"):
        quantize(x, dialect="gguf")  # type: ignore[arg-type]
    for scale in (0.0, -1.0, np.nan, np.inf, 1e-60, 1e60):
        for dialect in DIALECTS:
            with pytest.raises(ValueError, match="tensor_scale"):
                quantize(x, tensor_scale=scale, dialect=dialect)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="tensor_scale is a str"):
        quantize(x, tensor_scale="big")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tensor_scale"):
        quantize(x, tensor_scale=1e37)  # values would not fit float32
    monkeypatch.setitem(sys.modules, "torch", None)
    assert quantize(OnlyDlpack(x)) == quantize(x)


def test_parts_are_validated() -> None:
    t = quantize(weights((4, 32)))
    codes, scales = t.codes, t.block_scales
    assert NVFP4Tensor(codes, scales, t.tensor_scale) == t
    assert NVFP4Tensor(codes, scales.view(ml_dtypes.float8_e4m3fn), t.tensor_scale) == t
    with pytest.raises(ValueError, match=r"block_scales: shape \(4, 1\), expected \(4, 2\)"):
        NVFP4Tensor(codes, scales[:, :1], 1.0)
    with pytest.raises(ValueError, match="multiple of 8"):
        NVFP4Tensor(codes[:, :7], scales, 1.0)
    with pytest.raises(ValueError, match="dimension"):
        NVFP4Tensor(np.uint8(1), scales, 1.0)
    for bad in (0x7F, 0xFF, 0x81):
        wrong = scales.copy()
        wrong[2, 1] = bad
        with pytest.raises(ValueError, match=rf"block_scales\[2, 1\] is 0x{bad:02X}"):
            NVFP4Tensor(codes, wrong, 1.0)
    for scale in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="tensor_scale"):
            NVFP4Tensor(codes, scales, scale)
    with pytest.raises(TypeError, match="codes has dtype int8"):
        NVFP4Tensor(codes.view(np.int8), scales, 1.0)
    with pytest.raises(TypeError, match="list"):
        NVFP4Tensor([1], scales, 1.0)
    with pytest.raises(ValueError, match=r"dtype.*float32"):
        t.dequantize("float64")
    with pytest.raises(ValueError, match="out"):
        t.dequantize(out=np.empty((4, 31), f32))


# The object


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_tensor_is_immutable_and_travels(dialect: str) -> None:
    x = weights((4, 32), ml_dtypes.bfloat16)
    t = quantize(x, dialect=dialect)
    for twin in (pickle.loads(pickle.dumps(t)), copy.copy(t), copy.deepcopy(t)):
        assert twin == t
        np.testing.assert_array_equal(twin.dequantize(), t.dequantize())
    assert quantize(x, dialect=dialect, tensor_scale=t.tensor_scale) == t
    assert t != quantize(-x, dialect=dialect)
    assert (t == 3) is False
    with pytest.raises(AttributeError, match="immutable"):
        t.shape = (1,)
    with pytest.raises(ValueError, match="read-only"):
        t.codes[0] = 0
    with pytest.raises(TypeError, match="unhashable"):
        hash(t)
    assert t.nbytes == 4 * 16 + 4 * 2 + 4
    assert repr(t).startswith("NVFP4Tensor(shape=(4, 32), " + ("tensor_scale=" if dialect == "modelopt" else "divisor="))


def test_parts_are_shared_not_copied() -> None:
    codes, scales = np.zeros((4, 16), np.uint8), np.full((4, 2), 0x38, np.uint8)
    t = NVFP4Tensor(codes, scales, 1.0)
    assert np.shares_memory(t.codes, codes)
    assert np.shares_memory(t.block_scales, scales)


def test_a_divisor_stays_a_divisor() -> None:
    t = quantize(weights((4, 32), ml_dtypes.bfloat16), dialect="compressed-tensors")
    assert t.divisor is not None
    assert t.tensor_scale == 1 / t.divisor
    factor = oracle.E4M3[t.block_scales] / f32(t.divisor)
    np.testing.assert_array_equal(t.dequantize(), oracle.dequantize(t.codes, t.block_scales, factor))
    assert NVFP4Tensor.from_divisor(t.codes, t.block_scales, t.divisor) == t


def test_dequantize_fills_a_given_array() -> None:
    t = quantize(weights((4, 32)))
    for name, dtype in (("float32", f32), ("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)):
        out = np.ones((4, 32), dtype)
        assert t.dequantize(name, out=out) is out
        np.testing.assert_array_equal(out, t.dequantize(dtype))
    assert np.isinf(NVFP4Tensor(np.full((1, 8), 0x77, np.uint8), np.full((1, 1), 0x7E, np.uint8), 100.0).dequantize("float16")).all()


def test_memory_bandwidth_is_measured() -> None:
    rates = reset._core.memory_bandwidth(2)
    assert set(rates) == {"read", "write"}
    assert all(0.1 < rate < 10_000 for rate in rates.values())
