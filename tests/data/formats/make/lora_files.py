"""Write LoRA files: one adapter in every key style, special adapters, a run of adapters, and peft's own merges.

pip install -c constraints.txt torch diffusers peft accelerate transformers safetensors
python lora_files.py
"""
# mypy: disable-error-code="import-not-found, import-untyped, no-any-return, misc, no-untyped-call"

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import accelerate
import diffusers
import peft
import torch
from _wave import wave
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

HERE = Path(__file__).resolve().parent.parent / "lora"
BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
ATTENTION = tuple(f"{BLOCK}.{name}" for name in ("attn1.to_q", "attn1.to_out.0", "attn2.to_k"))
MODULES = (*ATTENTION, "down_blocks.0.attentions.0.proj_in", "down_blocks.0.resnets.0.conv1")
RANK, ALPHA = 4, 8
RUN_STEPS = (500, 1000, 1500, 2000)
SIGNED = (1.5, -0.9, 1.1, -0.7)
State = dict[str, torch.Tensor]


def base_unet() -> UNet2DConditionModel:
    """A Stable Diffusion UNet of one resolution, with closed-form weights."""
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4,
        cross_attention_dim=6, attention_head_dim=4, mid_block_type=None,
        down_block_types=("CrossAttnDownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip
    for k, parameter in enumerate(unet.parameters()):
        parameter.data.copy_(torch.from_numpy(wave(tuple(parameter.shape), k, 0.3)))
    return unet


def config(modules: tuple[str, ...] = MODULES, **options: Any) -> LoraConfig:
    """The peft configuration of all adapters here: rank 4 and alpha 8, so that the scale is 2."""
    return LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(modules), **options)


def fill(model: torch.nn.Module, drift: float = 0.0) -> None:
    """Give every factor (and DoRA magnitude) of a model its closed-form value, in the order of their names."""
    factors = sorted((name, p) for name, p in model.named_parameters() if "lora_" in name)
    for k, (name, parameter) in enumerate(factors):
        values = torch.from_numpy(wave(tuple(parameter.shape), k, 0.5, drift))
        parameter.data.copy_(1.0 + 0.2 * values if "magnitude" in name else values)


def adapted(drift: float = 0.0, **options: Any) -> PeftModel:
    """The base network wrapped by peft, adapter filled."""
    model = get_peft_model(base_unet(), config(**options))
    fill(model, drift)
    return model


def factors_of(model: torch.nn.Module) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Module name (of the base network) -> A, B as held by peft."""
    state = {k.removeprefix("base_model.model."): v for k, v in get_peft_model_state_dict(model).items()}
    names = [key.removesuffix(".lora_A.weight") for key in state if key.endswith(".lora_A.weight")]
    return {name: (state[f"{name}.lora_A.weight"], state[f"{name}.lora_B.weight"]) for name in names}


def product(a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:
    """scale * B A in float64, shaped as the weight it changes."""
    dense = scale * (b.double().flatten(1) @ a.double().flatten(1))
    return dense.reshape(b.shape[0], *a.shape[1:])


def deltas(model: torch.nn.Module, scale: float) -> State:
    """Module weight name -> dense delta, float64."""
    return {f"{name}.weight": product(a, b, scale) for name, (a, b) in factors_of(model).items()}


def save_expected(path: Path, tensors: State, **metadata: str) -> None:
    """Write float64 results as float32, names sorted."""
    ordered = {name: tensors[name].float().contiguous() for name in sorted(tensors)}
    save_file(ordered, path, metadata=metadata or None)


def close(got: State, want: State, what: str, tolerance: float = 1e-5) -> None:
    """Assert equal names and values up to rounding."""
    assert got.keys() == want.keys(), (what, got.keys() ^ want.keys())
    worst = max(float((got[name].double() - want[name].double()).abs().max()) for name in want)
    assert worst < tolerance, (what, worst)


def peft_deltas(model: torch.nn.Module, adapter: str) -> State:
    """peft's own dense delta of each adapted module."""
    found = {
        name.removeprefix("base_model.model."): module.get_delta_weight(adapter).detach()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }
    return {f"{name}.weight": value for name, value in found.items()}


def through_diffusers(path: Path) -> State:
    """What diffusers makes of a LoRA file: load it into a fresh network and ask peft for the deltas."""
    state, alphas, metadata = StableDiffusionPipeline.lora_state_dict(
        str(path.parent), weight_name=path.name, return_lora_metadata=True
    )
    unet = base_unet()
    StableDiffusionPipeline.load_lora_into_unet(state, alphas, unet, adapter_name="default", metadata=metadata)
    return peft_deltas(unet, "default")


def kohya(factors: dict[str, tuple[torch.Tensor, torch.Tensor]], dtype: torch.dtype) -> State:
    """Kohya keys: every dot of the module name an underscore, one scalar alpha per module."""
    state: State = {}
    for name, (a, b) in factors.items():
        key = "lora_unet_" + name.replace(".", "_")
        state[f"{key}.alpha"] = torch.tensor(float(ALPHA), dtype=dtype)
        state[f"{key}.lora_down.weight"] = a.to(dtype).contiguous()
        state[f"{key}.lora_up.weight"] = b.to(dtype).contiguous()
    return state


def attention_processor(factors: dict[str, tuple[torch.Tensor, torch.Tensor]], prefix: str) -> State:
    """The oldest diffusers keys (<= 0.16): only attention projections, `to_out.0` written `to_out_lora`."""
    state: State = {}
    for name in ATTENTION:
        block, projection = name.removesuffix(".0").rsplit(".", 1)
        state[f"{prefix}{block}.processor.{projection}_lora.down.weight"] = factors[name][0].contiguous()
        state[f"{prefix}{block}.processor.{projection}_lora.up.weight"] = factors[name][1].contiguous()
    return state


def write_styles() -> None:
    """The same adapter (scale 2) in every key style; see the table in README.md."""
    root, wrapped, native = HERE / "styles", adapted(), base_unet()
    native.add_adapter(config())
    fill(native)
    state, want, unscaled = get_peft_model_state_dict(native), deltas(native, 2.0), deltas(native, 1.0)
    close(peft_deltas(wrapped, "default"), want, "peft")
    save = StableDiffusionPipeline.save_lora_weights

    wrapped.save_pretrained(str(root / "peft"))
    save_file({k: v.contiguous() for k, v in state.items()}, root / "peft_add_adapter.safetensors")
    save(str(root), state, weight_name="diffusers_new.safetensors")
    metadata = native.peft_config["default"].to_dict()
    metadata["target_modules"] = sorted(metadata["target_modules"])  # a set: its order would differ from run to run
    save(str(root), state, weight_name="diffusers_metadata.safetensors", unet_lora_adapter_metadata=metadata)
    script = convert_state_dict_to_diffusers(state)  # renames attention projections only
    save(str(root), script, weight_name="diffusers_script_mixed.safetensors")
    script = {name: tensor for name, tensor in script.items() if ".lora." in name}
    save(str(root), script, weight_name="diffusers_script.safetensors")
    save(str(root), get_peft_model_state_dict(wrapped), weight_name="lcm_script.safetensors")
    save_file(kohya(factors_of(native), torch.float32), root / "kohya.safetensors")
    save_file(attention_processor(factors_of(native), "unet."), root / "attn_processor.safetensors")
    save_expected(HERE / "styles.expected.safetensors", want)

    bare = load_file(root / "peft_add_adapter.safetensors")
    assert all(torch.equal(bare[name], tensor) for name, tensor in state.items())
    script_copy = load_file(root / "lcm_script.safetensors")  # diffusers itself refuses this one
    for name, tensor in load_file(root / "peft" / "adapter_model.safetensors").items():
        assert torch.equal(script_copy[f"unet.{name}"], tensor), name
    again = PeftModel.from_pretrained(base_unet(), str(root / "peft"))
    close(peft_deltas(again, "default"), want, "peft again")
    for name in ("kohya", "diffusers_metadata"):
        close(through_diffusers(root / f"{name}.safetensors"), want, name)
    attention = {f"{name}.weight": unscaled[f"{name}.weight"] for name in ATTENTION}
    rest = {name: tensor for name, tensor in unscaled.items() if name not in attention}
    # No alpha in these files: diffusers takes alpha = rank. Of the mixed file it drops the renamed half, no error.
    seen = {"diffusers_new": unscaled, "diffusers_script": attention, "diffusers_script_mixed": rest}
    for name, delta in (seen | {"attn_processor": attention}).items():
        close(through_diffusers(root / f"{name}.safetensors"), delta, name)


def write_kohya_release() -> None:
    """fp16 with fp16 alpha scalars, as the released LCM-LoRA; the delta is that of the rounded factors."""
    halves = {name: (a.half(), b.half()) for name, (a, b) in factors_of(adapted()).items()}
    path = HERE / "kohya_fp16" / "pytorch_lora_weights.safetensors"
    path.parent.mkdir(parents=True)
    save_file(kohya(halves, torch.float16), path)
    want = {f"{name}.weight": product(a, b, 2.0) for name, (a, b) in halves.items()}
    save_expected(HERE / "kohya_fp16.expected.safetensors", want)
    close(through_diffusers(path), want, "kohya fp16", 5e-3)  # diffusers multiplies in half precision


def write_special() -> None:
    """rsLoRA (scale alpha / sqrt r), DoRA (not linear in its factors), a per-module rank and alpha pattern, a bias."""
    q, conv = ATTENTION[0], MODULES[-1]
    pattern: dict[str, Any] = {"rank_pattern": {"conv1": 2}, "alpha_pattern": {"conv1": 6, "attn1.to_q": 16}}
    rs, dora, mixed = adapted(use_rslora=True), adapted(modules=(q, conv), use_dora=True), adapted(**pattern)
    want = {"rslora": deltas(rs, ALPHA / math.sqrt(RANK)), "pattern": deltas(mixed, 2.0)}
    for name, scale in ((q, 16 / RANK), (conv, 6 / 2)):
        want["pattern"][f"{name}.weight"] = product(*factors_of(mixed)[name], scale)
    base = base_unet().state_dict()
    want["dora"] = {}
    state = get_peft_model_state_dict(dora)
    for name in (q, conv):
        weight = base[f"{name}.weight"].double()
        tuned = weight + product(*factors_of(dora)[name], 2.0)
        norm = tuned.flatten(1).norm(dim=1)
        magnitude = state[f"base_model.model.{name}.lora_magnitude_vector"].double().flatten()
        want["dora"][f"{name}.weight"] = tuned * (magnitude / norm).reshape(-1, *[1] * (weight.ndim - 1)) - weight
    for name, model in (("rslora", rs), ("pattern", mixed), ("dora", dora)):
        model.save_pretrained(str(HERE / name))
        save_expected(HERE / f"{name}.expected.safetensors", want[name])
        merged = PeftModel.from_pretrained(base_unet(), str(HERE / name)).merge_and_unload().state_dict()
        close({key: merged[key] - base[key] for key in want[name]}, want[name], name)
        if name != "dora":
            close(peft_deltas(model, "default"), want[name], name)


def write_run() -> None:
    """Adapters of one run, drifting a little, in peft folders; and peft's exact combinations of them."""
    models = [adapted(0.03 * i) for i in range(len(RUN_STEPS))]
    for step, model in zip(RUN_STEPS, models, strict=True):
        folder = HERE / "run" / f"checkpoint-{step}"
        model.save_pretrained(str(folder))
        save_expected(HERE / f"run.checkpoint-{step}.expected.safetensors", deltas(model, 2.0))
    folders = [str(HERE / "run" / f"checkpoint-{step}") for step in RUN_STEPS]
    every = [deltas(model, 2.0) for model in models]
    same, quarter = [folders[0]] * 4, (0.25,) * 4
    signed, identical = merge(folders, SIGNED, every), merge(same, quarter, [every[0]] * 4)
    save_expected(HERE / "run.signed.expected.safetensors", signed, weights=json.dumps(SIGNED))
    save_expected(HERE / "run.identical.expected.safetensors", identical, weights=json.dumps(quarter))


def merge(folders: list[str], weights: tuple[float, ...], every: list[State]) -> State:
    """peft's `cat` combination, asserted equal to the float64 sum of deltas and unequal to peft's `linear`."""
    model = PeftModel.from_pretrained(base_unet(), folders[0], adapter_name="a0")
    for i, folder in enumerate(folders[1:], 1):
        model.load_adapter(folder, adapter_name=f"a{i}")
    names = [f"a{i}" for i in range(len(folders))]
    for kind in ("cat", "linear"):
        model.add_weighted_adapter(names, list(weights), adapter_name=kind, combination_type=kind)
    exact = {name: torch.stack([w * d[name] for w, d in zip(weights, every, strict=True)]).sum(0) for name in every[0]}
    got = peft_deltas(model, "cat")
    close(got, exact, "cat")
    wrong = peft_deltas(model, "linear")
    ratios = [float(wrong[n].double().norm() / exact[n].norm()) for n in sorted(exact)]
    print("peft linear / exact norms:", [round(ratio, 3) for ratio in ratios])
    return got


def write_lcm_run() -> None:
    """A folder of the LCM-LoRA script: two copies of the adapter, one without alpha, beside accelerate's state."""
    accelerate.utils.set_seed(0)
    model = adapted()
    accelerator = accelerate.Accelerator(cpu=True)

    def hook(models: list[Any], weights: list[Any], output_dir: str) -> None:
        for net in models:
            state = get_peft_model_state_dict(net, adapter_name="default")
            StableDiffusionPipeline.save_lora_weights(str(Path(output_dir) / "unet_lora"), state)
            net.save_pretrained(output_dir)
            weights.pop()

    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    accelerator.prepare(model, optimizer, diffusers.optimization.get_scheduler("constant", optimizer=optimizer))
    accelerator.register_save_state_pre_hook(hook)
    for i, step in enumerate(RUN_STEPS[:2]):
        fill(model, 0.03 * i)
        folder = HERE / "lcm_run" / f"checkpoint-{step}"
        accelerator.save_state(str(folder))
        peft_copy = load_file(folder / "adapter_model.safetensors")
        script_copy = load_file(folder / "unet_lora" / "pytorch_lora_weights.safetensors")
        assert {f"unet.{name}" for name in peft_copy} == script_copy.keys()
        assert all(torch.equal(script_copy[f"unet.{name}"], tensor) for name, tensor in peft_copy.items())
        twin = load_file(HERE / "run" / f"checkpoint-{step}" / "adapter_model.safetensors")
        assert all(torch.equal(twin[name], peft_copy[name]) for name in twin)
        (folder / "random_states_0.pkl").unlink()  # 14 KB; other groups keep one


def normalise() -> None:
    """Sort target_modules, which peft writes in the order of a set, and drop copies of the model card template."""
    for path in HERE.rglob("adapter_config.json"):
        settings = json.loads(path.read_text())
        settings["target_modules"] = sorted(settings["target_modules"])
        path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    for path in HERE.rglob("README.md"):  # 5 KB of empty headings each: one folder keeps it
        if path.parent != HERE / "lcm_run" / "checkpoint-500":
            path.unlink()


if __name__ == "__main__":
    torch.set_num_threads(1)
    shutil.rmtree(HERE, ignore_errors=True)
    base_unet().save_pretrained(str(HERE / "base_unet"))
    write_styles()
    write_kohya_release()
    write_special()
    write_run()
    write_lcm_run()
    normalise()
    for package in (torch, diffusers, peft, accelerate):
        print(package.__name__, package.__version__)
