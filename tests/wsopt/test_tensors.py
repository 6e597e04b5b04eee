"""Bytes of tensors of every dtype and layout."""

from __future__ import annotations

import struct

import pytest
import torch

from wsopt.tensors import as_bytes, same_bits, widened

EIGHT_BIT = (torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz)
DTYPES = (
    *EIGHT_BIT, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.bool, torch.uint8,
    torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32, torch.uint64, torch.int64,
)  # fmt: skip


def test_the_order_is_row_major() -> None:
    tensor = torch.tensor([[1, 2, 3], [4, 5, 6]], dtype=torch.int16)
    assert as_bytes(tensor) == struct.pack("=6h", 1, 2, 3, 4, 5, 6)
    assert as_bytes(tensor.T) == struct.pack("=6h", 1, 4, 2, 5, 3, 6)
    assert as_bytes(tensor[:, ::2]) == struct.pack("=4h", 1, 3, 4, 6)
    assert as_bytes(torch.tensor(7, dtype=torch.int16).expand(2)) == struct.pack("=2h", 7, 7)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_gives_its_bytes(dtype: torch.dtype) -> None:
    tensor = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).to(dtype)
    found = as_bytes(tensor)
    assert len(found) == tensor.numel() * dtype.itemsize
    again = torch.frombuffer(bytearray(found), dtype=dtype)
    assert again.to(torch.complex128).tolist() == [0, 1, 0, 1]
    assert as_bytes(tensor[0, 1]) == found[dtype.itemsize : 2 * dtype.itemsize]  # without axes
    assert as_bytes(tensor.T[0]) == bytes(2 * dtype.itemsize)
    assert same_bits(tensor, tensor.clone())
    assert not same_bits(tensor, tensor.T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool], ids=str)
def test_empty_tensors_have_no_bytes_whatever_their_strides(dtype: torch.dtype) -> None:
    stretched = torch.zeros(1, dtype=dtype).as_strided((0,), (0,))
    for tensor in (stretched, torch.zeros(0, dtype=dtype), torch.zeros(3, 0, dtype=dtype)):
        assert as_bytes(tensor).tobytes() == b""
        assert same_bits(tensor, stretched)
        assert not same_bits(tensor, torch.zeros(1, dtype=dtype))


def test_one_value_of_any_stride_has_its_bytes() -> None:
    assert as_bytes(torch.tensor([[1.0, 2.0], [3.0, 4.0]])[1:, 1]) == struct.pack("=f", 4.0)
    assert as_bytes(torch.tensor([3.0, 4.0]).as_strided((1,), (0,), 1)) == struct.pack("=f", 4.0)


def test_parameters_and_lazy_views_are_resolved() -> None:
    assert as_bytes(torch.nn.Parameter(torch.ones(1))) == struct.pack("=f", 1.0)
    assert as_bytes(torch.tensor([1 + 2j]).conj()) == struct.pack("=2f", 1.0, -2.0)
    assert as_bytes(torch.tensor([1 + 2j]).conj().imag) == struct.pack("=f", -2.0)


def test_bits_tell_apart_what_values_do_not() -> None:
    nan = torch.tensor([float("nan")])
    assert same_bits(nan, nan.clone())
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))


@pytest.mark.parametrize("dtype", EIGHT_BIT, ids=str)
def test_eight_bit_floats_are_widened(dtype: torch.dtype) -> None:
    values = widened(torch.tensor([1.0, float("nan")]).to(dtype).requires_grad_())
    assert values.dtype == torch.float32
    assert not values.requires_grad
    assert values.isfinite().tolist() == [True, False]


def test_nothing_else_is_widened() -> None:
    for dtype in set(DTYPES) - set(EIGHT_BIT):
        assert widened(torch.ones(1).to(dtype)).dtype == dtype


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def test_devices_make_no_difference(device: str) -> None:
    here = torch.arange(6.0).reshape(2, 3).T
    there = here.to(device, copy=True)
    assert as_bytes(there) == as_bytes(here)
    assert same_bits(here, there)
    assert same_bits(there, here)
