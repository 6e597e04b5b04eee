"""Write flax msgpack checkpoints laid out like openai/consistency_models_cifar10, and what a reader must return.

    pip install jax flax optax numpy safetensors
    python flax_msgpack.py

The network is a small one of our own; its submodules carry the class names of the public NCSN++, so Flax itself makes
the parameter names (`ResnetBlockBigGANpp_0/Conv_0/kernel`, ...). Shapes come from `jax.eval_shape`, values from `wave`.
"""
# mypy: disable-error-code="import-not-found, import-untyped, no-any-return, misc, no-untyped-call"
# mypy: disable-error-code="untyped-decorator, call-arg"

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _wave import wave
from flax import linen as nn
from flax import serialization
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

HERE = Path(__file__).resolve().parent.parent / "flax"
Tree = dict[str, Any]


@flax.struct.dataclass
class State:
    """The eight fields a run without a target network saves (CD with stop-gradient targets)."""

    step: int
    lr: float
    ema_rate: float
    params: Any
    params_ema: Any
    model_state: Any
    opt_state: Any
    rng_state: Any


@flax.struct.dataclass
class StateWithTarget:
    """The nine fields saved when the loss name ends in `ema`, `adaptive` or `progressive_distillation`."""

    step: int
    lr: float
    ema_rate: float
    params: Any
    target_params: Any
    params_ema: Any
    model_state: Any
    opt_state: Any
    rng_state: Any


class GaussianFourierProjection(nn.Module):
    """One vector `W` of frequencies: one-dimensional, so no reader may transpose it."""

    size: int

    @nn.compact
    def __call__(self, t: jax.Array) -> jax.Array:
        angle = 2 * jnp.pi * t[:, None] * self.param("W", nn.initializers.ones, (self.size,))
        return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class NIN(nn.Module):
    """A 1x1 projection with parameters `W` [in, out] and `b` [out]."""

    units: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        weight = self.param("W", nn.initializers.ones, (x.shape[-1], self.units))
        return x @ weight + self.param("b", nn.initializers.zeros, (self.units,))


class Conv2d(nn.Module):
    """A convolution whose HWIO kernel is called `weight`, as in the FIR resampling path (no filter here)."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        weight = self.param("weight", nn.initializers.ones, (3, 3, x.shape[-1], self.features))
        axes = ("NHWC", "HWIO", "NHWC")
        out = jax.lax.conv_general_dilated(x, weight, (2, 2), "SAME", dimension_numbers=axes)
        return out + self.param("bias", nn.initializers.zeros, (self.features,))


class Downsample(nn.Module):
    """Wraps `Conv2d_0`."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return Conv2d(self.features)(x)


class AttnBlockpp(nn.Module):
    """`GroupNorm_0` and `NIN_0`..`NIN_3`."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = nn.GroupNorm(num_groups=1)(x)
        q, k, v = NIN(x.shape[-1])(h), NIN(x.shape[-1])(h), NIN(x.shape[-1])(h)
        return x + NIN(x.shape[-1])(q * k * v)


class ResnetBlockBigGANpp(nn.Module):
    """`GroupNorm_0`, `Conv_0`, `Dense_0`, `GroupNorm_1`, `Conv_1` and, when it resamples, the 1x1 shortcut `Conv_2`."""

    down: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, temb: jax.Array) -> jax.Array:
        channels, stride = x.shape[-1], (2, 2) if self.down else (1, 1)
        h = nn.Conv(channels, (3, 3), strides=stride)(nn.swish(nn.GroupNorm(num_groups=1)(x)))
        h = h + nn.Dense(channels)(nn.swish(temb))[:, None, None, :]
        h = nn.Conv(channels, (3, 3))(nn.swish(nn.GroupNorm(num_groups=1)(h)))
        return (nn.Conv(channels, (1, 1), strides=stride)(x) if self.down else x) + h


class NCSNpp(nn.Module):
    """One level down and a middle: every kind of parameter of the public network once."""

    width: int = 4

    @nn.compact
    def __call__(self, x: jax.Array, t: jax.Array) -> jax.Array:
        temb = GaussianFourierProjection(self.width)(t)
        temb = nn.Dense(2 * self.width)(nn.swish(nn.Dense(2 * self.width)(temb)))
        h = ResnetBlockBigGANpp()(nn.Conv(self.width, (3, 3))(x), temb)
        h = ResnetBlockBigGANpp(down=True)(AttnBlockpp()(h), temb) + Downsample(self.width)(x)
        return nn.Conv(3, (3, 3))(nn.swish(nn.GroupNorm(num_groups=1)(h)))


def network_params(shift: int, drift: float = 0.0) -> Tree:
    """The network's parameter tree filled with the closed form."""
    images, times = jnp.zeros((1, 8, 8, 3)), jnp.zeros((1,))
    shapes = jax.eval_shape(NCSNpp().init, jax.random.PRNGKey(0), images, times)["params"]
    leaves, treedef = jax.tree_util.tree_flatten(shapes)
    waves = [jnp.asarray(wave(leaf.shape, k + shift, 0.5, drift)) for k, leaf in enumerate(leaves)]
    return jax.tree_util.tree_unflatten(treedef, waves)


def opt_state(params: Tree) -> Any:
    """The RAdam state of the public recipe, moments zero."""
    recipe = optax.chain(optax.scale_by_radam(), optax.add_decayed_weights(0.0, None), optax.scale(-4e-4))
    return recipe.init(params)


def torch_layout(tree: Tree, prefix: str = "") -> dict[str, NDArray[Any]]:
    """Flatten a parameter tree to torch names and axes; see README.md, section flax, for the table."""
    flat: dict[str, NDArray[Any]] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(torch_layout(value, f"{prefix}{key}."))
            continue
        array = np.asarray(value)
        name = {"kernel": "weight", "scale": "weight", "b": "bias"}.get(key, key)
        if key == "W" and array.ndim == 2:
            name = "weight"
        axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim)
        flat[prefix + name] = np.ascontiguousarray(array if axes is None else array.transpose(axes))
    return flat


def write(path: Path, state: Any, fields: tuple[str, ...]) -> None:
    """Write one checkpoint, load it back with flax, and write the expected tensors beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(serialization.to_bytes(state))
    restored = serialization.msgpack_restore(path.read_bytes())
    expected: dict[str, NDArray[Any]] = {}
    for field in fields:
        tree = getattr(state, field) if not isinstance(state, dict) else state[field]
        jax.tree_util.tree_map(np.testing.assert_array_equal, tree, restored[field])
        expected |= {f"{field}/{name}": array for name, array in torch_layout(restored[field]).items()}
    target = path.parent.parent / f"{path.name}.expected.safetensors"  # not among the checkpoints
    save_file(expected, target)
    assert all(np.array_equal(expected[name], array) for name, array in load_file(target).items())
    print(path.relative_to(HERE), path.stat().st_size, len(expected), "tensors")


def trained_scalars(step: int) -> Tree:
    """Zero-dimensional arrays, as left by the replicated training state; the rng is haiku's (key, pending keys)."""
    return {
        "step": jnp.asarray(step, jnp.int32),
        "lr": jnp.asarray(4e-4, jnp.float32),
        "ema_rate": jnp.asarray(0.9999, jnp.float32),
        "model_state": {},
        "rng_state": (np.array([7, 11], np.uint32), ()),
    }


def write_runs() -> None:
    """Two checkpoints of a run without target (numbers that sort wrongly as text) and one of a run with target."""
    for number in (3, 10):
        params = network_params(0, 0.01 * number)
        state = State(
            params=params, params_ema=network_params(0, 0.005 * number), opt_state=opt_state(params),
            **trained_scalars(10000 * number),
        )  # fmt: skip
        fields = ("params", "params_ema") if number == 3 else ("params",)
        write(HERE / "cd" / "checkpoints" / f"checkpoint_{number}", state, fields)
    params = network_params(100)
    target = StateWithTarget(
        params=params, target_params=network_params(200), params_ema=network_params(300), opt_state=opt_state(params),
        **trained_scalars(30000),
    )  # fmt: skip
    write(HERE / "ct" / "checkpoints" / "checkpoint_3", target, ("params", "target_params", "params_ema"))


def write_special() -> None:
    """A checkpoint with chunked arrays and a bfloat16 leaf, as flax writes arrays over its size limit."""
    tree = {
        "Conv_0": {"kernel": jnp.asarray(wave((3, 3, 3, 4), 1)), "bias": jnp.asarray(wave((4,), 2))},
        "Dense_0": {"kernel": jnp.asarray(wave((5, 6), 3)).astype(jnp.bfloat16), "bias": jnp.asarray(wave((6,), 4))},
        "Dense_1": {"kernel": jnp.asarray(wave((16, 16), 5)).astype(jnp.bfloat16), "bias": jnp.asarray(wave((16,), 6))},
        "NIN_0": {"W": jnp.asarray(wave((4, 6), 7)).astype(jnp.float16), "b": jnp.asarray(wave((6,), 8))},
    }
    serialization.MAX_CHUNK_SIZE = 100  # bytes; the library's own value is 2**30
    state = {"step": np.int64(30000), "params": tree, "params_ema": tree}
    write(HERE / "chunked" / "checkpoints" / "checkpoint_3", state, ("params", "params_ema"))
    written = (HERE / "chunked" / "checkpoints" / "checkpoint_3").read_bytes()
    assert b"__msgpack_chunked_array__" in written


if __name__ == "__main__":
    shutil.rmtree(HERE, ignore_errors=True)
    write_runs()
    write_special()
    print("flax", flax.__version__, "jax", jax.__version__, "optax", optax.__version__, "numpy", np.__version__)
