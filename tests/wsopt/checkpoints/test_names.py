"""What names of files tell."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsopt.checkpoints import Stream, identify
from wsopt.checkpoints._names import natural
from wsopt.errors import CheckpointError

RAW, EMA = Stream(), Stream("ema")


@pytest.mark.parametrize(
    ("name", "stream", "step"),
    [
        ("model050000.pt", RAW, 50_000),
        ("run 1\n000100.pt", RAW, 100),
        ("model1000000.pt", RAW, 1_000_000),
        ("ema_0.9999432189950708_600000.pt", Stream("ema", 0.9999432189950708), 600_000),
        ("ema_0.9999_1000000.pt", Stream("ema", 0.9999), 1_000_000),
        ("ema-0.999.safetensors", Stream("ema", 0.999), None),
        ("ema_0.9999_050000", Stream("ema", 0.9999), 50_000),
        ("ema_0.9999_step_100k.pt", Stream("ema", 0.9999), 100_000),
        ("model_ema_1000.pt", EMA, 1000),
        ("ema_1.0_5.pt", EMA, 5),
        ("unet_ema", EMA, None),
        ("schema_10.pt", RAW, 10),
        ("target_model050000.pt", Stream("target"), 50_000),
        ("network-snapshot-000200.pkl", EMA, 200),
        ("network-snapshot-0002147-0.100.pkl", Stream("ema", width=0.1), 2147),
        ("training-state-000200.pt", RAW, 200),
        ("ckpt.pth", RAW, None),
        ("ckpt_5000.pth", RAW, 5000),
        ("checkpoint-500", RAW, 500),
        ("checkpoint_3", RAW, 3),
        ("model.10000.pt", RAW, 10_000),
        ("demo_model_0001.pth.tar", RAW, 1),
        ("epoch=3-step=12000.ckpt", RAW, 12_000),
        ("step=12000-epoch=3.ckpt", RAW, 12_000),
        ("model-iter2000-loss0.31.pt", RAW, 2000),
        ("cifar10_uncond_50M_500K.pt", RAW, 500_000),
        ("model-500.fp16.safetensors", RAW, 500),
        ("diffusion_pytorch_model.fp16.safetensors", RAW, None),
        ("model-00001-of-00003.safetensors", RAW, None),
        ("model_bf16_v2.1_700.pt", RAW, 700),
        ("edm-cifar-32x32.pkl", RAW, None),
    ],
)
def test_stream_and_step(name: str, stream: Stream, step: int | None) -> None:
    assert identify(Path("42") / name) == (stream, step)


@given(st.integers(0, 10**15 - 1), st.sampled_from(["model{:06d}.pt", "step-{}.safetensors", "ckpt_{}", "a/7/x{}.bin"]))
def test_any_step_of_15_digits_is_found(step: int, pattern: str) -> None:
    assert identify(Path(pattern.format(step)))[1] == step


@given(st.floats(0.5, 1, exclude_max=True), st.integers(0, 10**9))
def test_any_rate_survives_the_name(rate: float, step: int) -> None:
    assert identify(Path(f"ema_{rate!r}_{step:06d}.pt")) == (Stream("ema", rate), step)


def test_too_many_digits_are_no_step() -> None:
    with pytest.raises(CheckpointError, match="the last number in its name has 16 digits"):
        identify(Path("run-1234567890123456.pt"))


def test_names_are_ordered_by_number() -> None:
    names = ["model9.pt", "model10.pt", "model10b.pt", "model900000.pt", "model1000000.pt", "x"]
    shuffled = random.Random(0).sample(names, len(names))
    assert sorted(shuffled, key=natural) == names
