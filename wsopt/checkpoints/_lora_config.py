"""The scale of each LoRA module, from the configuration beside or in a file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from wsopt.checkpoints._base import Snapshot
from wsopt.checkpoints._index import read_json
from wsopt.errors import CheckpointError

METADATA_KEY: Final = "lora_adapter_metadata"
"""Entry of a safetensors header in which diffusers keeps the configuration, as JSON with keys ``unet.r`` and so on."""

_PEFT_KEYS: Final = frozenset({"peft_type", "r", "lora_alpha"})
_REFUSED: Final = {
    "use_dora": "DoRA, whose weight is not linear in the factors",
    "use_qalora": "QA-LoRA, whose factors act on pooled inputs",
    "use_bdlora": "block-diagonal LoRA",
    "kasa_config": "KaSA, which has singular values between the factors",
    "monteclora_config": "MonteCLoRA, whose factors are random",
    "velora_config": "VeLoRA",
    "arrow_config": "Arrow, which chooses between adapters by token",
    "alora_invocation_tokens": "activated LoRA, which acts on some tokens only",
    "target_parameters": "on parameters other than modules' weights (target_parameters)",
    "layer_replication": "replicated layers, which the base model lacks",
    "fan_in_fan_out": "weights stored transposed (fan_in_fan_out)",
}
_CHANGES_BASE: Final = re.compile(r"pissa.*|olora|corda|loftq|lora_ga")


class LoraConfigs:
    """peft's configuration of an adapter, or of each component where diffusers keeps several in one file.

    Args:
        snapshot: whose `config` holds the content of ``adapter_config.json``, or text metadata with `METADATA_KEY`.

    Raises:
        CheckpointError: for an adapter whose weights are not base + scale * B A, naming the option.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._configs = _components(snapshot)
        self._written: dict[str, str] = {}
        for config in self._configs.values():
            self._check(config)

    def seen(self, module: str, written: str) -> None:
        """Note how a module's name is written in the file: it tells the component."""
        self._written.setdefault(module, written)

    def scale(self, module: str, rank: int) -> float | None:
        """The scale alpha / r, or alpha / sqrt(r) with rsLoRA; None where alpha is said nowhere.

        Raises:
            CheckpointError: where the configuration names another rank than the factors have.
        """
        config = self._config_of(module)
        if config is None or (alpha := self._number(config, "lora_alpha", "alpha_pattern", module)) is None:
            return None
        told = self._number(config, "r", "rank_pattern", module)
        if told is not None and told != rank:
            raise CheckpointError(
                f"{self._snapshot}: the factors of module {module} have rank {rank}, the configuration says "
                f"{told:g}. The configuration belongs to another adapter: put the right adapter_config.json beside it."
            )
        return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)

    def _config_of(self, module: str) -> Mapping[str, Any] | None:
        component = self._written[module].split(".", 1)[0]
        if component in self._configs:
            return self._configs[component]
        return next(iter(self._configs.values())) if len(self._configs) == 1 else None

    def _number(self, config: Mapping[str, Any], key: str, pattern_key: str, module: str) -> float | None:
        value = config.get(key)
        patterns = config.get(pattern_key) or {}
        try:
            # peft: a pattern is a regular expression for the end of the name; the first that fits counts.
            value = next((one for name, one in patterns.items() if re.match(rf"(.*\.)?({name})$", module)), value)
        except (re.error, AttributeError) as error:
            raise CheckpointError(
                f"{self._snapshot}: {pattern_key} of its configuration is damaged: {error}. Mend adapter_config.json."
            ) from error
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value == 0:
            raise CheckpointError(
                f"{self._snapshot}: {key} of module {module} is {value!r} in its configuration, expected a number "
                f"other than 0. Mend adapter_config.json."
            )
        return float(value)

    def _check(self, config: Mapping[str, Any]) -> None:
        kind = config.get("peft_type") or "LORA"
        reason = next((why for key, why in _REFUSED.items() if config.get(key)), None)
        if kind != "LORA":
            reason = f"of type {kind}, not LORA"
        start = config.get("init_lora_weights")
        if isinstance(start, str) and _CHANGES_BASE.fullmatch(start.lower()):
            reason = f"initialised with {start}, which changes the base weights too"
        if reason is not None:
            raise CheckpointError(
                f"{self._snapshot}: its configuration says that the adapter is {reason}; it cannot be combined "
                f"as LoRA. Merge each checkpoint into the base model and combine those weights."
            )


def _components(snapshot: Snapshot) -> dict[str, Mapping[str, Any]]:
    config = snapshot.config
    if METADATA_KEY not in config:
        config = config if _PEFT_KEYS & config.keys() else _sibling(snapshot)
        return {"": config} if config else {}
    try:
        entries = json.loads(config[METADATA_KEY])
        found: dict[str, dict[str, Any]] = {}
        for key, value in entries.items():
            component, _, option = key.rpartition(".")
            found.setdefault(component, {})[option] = value
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{snapshot}: its metadata entry {METADATA_KEY} is damaged ({error}). Save the adapter again."
        ) from error
    return dict(found)


def _sibling(snapshot: Snapshot) -> Mapping[str, Any]:
    """What lies beside a file that peft wrote, where the file itself was given."""
    path = snapshot.path.parent / "adapter_config.json"
    if snapshot.path.stem != "adapter_model" or not snapshot.path.is_file() or not path.is_file():
        return {}
    return read_json(path)
