"""What comes with wsopt, registered through the same hooks as everybody's."""

from __future__ import annotations

from wsopt.config.params import (
    CmaesParams,
    CoordinateParams,
    DifferenceParams,
    DirectParams,
    FidParams,
    LayerwiseParams,
    LcscParams,
    LoraParams,
    NevergradParams,
    OnePlusOneParams,
    RandomParams,
)
from wsopt.hookspecs import Register, hookimpl


@hookimpl
def register_objectives(register: Register) -> None:
    """See `wsopt.hookspecs.register_objectives`."""
    register("fid", "wsopt.objectives:FrechetDistance", params=FidParams)


@hookimpl
def register_optimizers(register: Register) -> None:
    """See `wsopt.hookspecs.register_optimizers`."""
    register("lcsc", "wsopt.optimizers:LcscSearch", params=LcscParams)
    register("one-plus-one", "wsopt.optimizers:OnePlusOneSearch", params=OnePlusOneParams)
    register("cmaes", "wsopt.optimizers.cmaes:CmaEsSearch", params=CmaesParams)
    register("nevergrad", "wsopt.optimizers.nevergrad:NevergradSearch", params=NevergradParams)
    register("coordinate", "wsopt.optimizers:CoordinateSearch", params=CoordinateParams)
    register("random", "wsopt.optimizers:RandomSearch", params=RandomParams)


@hookimpl
def register_parameterizations(register: Register) -> None:
    """See `wsopt.hookspecs.register_parameterizations`."""
    register("difference", "wsopt.parameterizations:DifferenceBase", params=DifferenceParams)
    register("direct", "wsopt.parameterizations:Direct", params=DirectParams)
    register("layerwise", "wsopt.parameterizations:Layerwise", params=LayerwiseParams)
    register("lora", "wsopt.parameterizations:Lora", params=LoraParams)


@hookimpl
def register_checkpoint_readers(register: Register) -> None:
    """See `wsopt.hookspecs.register_checkpoint_readers`."""
    # Folders and shards first: a shard alone looks like a checkpoint of its own.
    register("diffusers", "wsopt.checkpoints:DiffusersReader")
    register("safetensors-sharded", "wsopt.checkpoints:ShardedReader")
    register("safetensors", "wsopt.checkpoints:SafetensorsReader")
    register("torch", "wsopt.checkpoints:TorchReader")
    register("edm-pickle", "wsopt.checkpoints:EdmPickleReader")
    register("flax", "wsopt.checkpoints:FlaxReader")


@hookimpl
def register_feature_extractors(register: Register) -> None:
    """See `wsopt.hookspecs.register_feature_extractors`."""
    register("digits", "wsopt.objectives:DigitsClassifier")
    register("digits-mlp", "wsopt.objectives:DigitsMlp")
    register("mnist", "wsopt.objectives:MnistClassifier")
    register("mnist-mlp", "wsopt.objectives:MnistMlp")
    register("pixels", "wsopt.objectives:Pixels")


@hookimpl
def register_datasets(register: Register) -> None:
    """See `wsopt.hookspecs.register_datasets`."""
    register("digits", "wsopt.datasets:Digits")
    register("mnist", "wsopt.datasets:Mnist")
