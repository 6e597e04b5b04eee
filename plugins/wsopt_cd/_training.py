"""Training: a diffusion model, then the consistency model distilled from it.

The folder holds, in the order they are written: ``state.safetensors`` (to resume from; replaced again and again),
``teacher.safetensors``, ``checkpoints/step-000020.safetensors`` and on, ``ema/ema-0.999.safetensors`` and its like, and
``training.json``, which says that the training is complete.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from wsopt.checkpoints import write_tensors
from wsopt.datasets import Dataset
from wsopt.diffusion import (
    Denoiser,
    FlowPair,
    SongUNet,
    denoising_loss,
    distillation_loss,
    flow_pairs,
    karras_grid,
    lognormal_sigmas,
)
from wsopt.errors import CheckpointError, InputError, Interrupted, WsoptError
from wsopt.families import TrainedSet
from wsopt.files import locked, write_json
from wsopt.memory import peak_bytes, reset_peak
from wsopt.progress import Progress
from wsopt.seeding import child_seed
from wsopt_cd._files import read_json, read_tensors
from wsopt_cd._trainee import Trainee
from wsopt_cd.params import CDParams, CDRecipe

_STATE = "state.safetensors"
_TEACHER = "teacher.safetensors"
_COMPLETE = "training.json"
_BLOCK = 512
"""Images that the teacher prepares at once."""


def train(params: CDParams, recipe: CDRecipe, dataset: Dataset, folder: Path, progress: Progress) -> TrainedSet:
    """See `wsopt_cd.family.ConsistencyDistillation.train`."""
    if params.network.dropout:
        raise InputError(
            f"family.network.dropout is {params.network.dropout}; this training draws no dropout masks. Set it to 0."
        )
    if (found := finished(params, recipe, folder)) is not None:
        return found
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "ema").mkdir(exist_ok=True)
    with locked(folder, lambda: _in_use(folder)), torch.enable_grad():
        if not (folder / _COMPLETE).exists():
            _Training(params, recipe, dataset, folder, progress).run()
    return _look(folder, params, recipe)


def _in_use(folder: Path) -> WsoptError:
    return WsoptError(f"another process is training in {folder}. Wait for it, then give the command again.")


def finished(params: CDParams, recipe: CDRecipe, folder: Path) -> TrainedSet | None:
    """The finished training in `folder`, or None where there is none."""
    return _look(folder, params, recipe) if (folder / _COMPLETE).exists() else None


def _identity(params: CDParams, recipe: CDRecipe) -> dict[str, object]:
    """What a folder's training is told apart by; how often its state is saved changes nothing in it."""
    return {"params": params.model_dump(mode="json"), "recipe": recipe.model_dump(mode="json", exclude={"state_every"})}


def _look(folder: Path, params: CDParams, recipe: CDRecipe) -> TrainedSet:
    """The finished training in `folder`, after a look at whether all its files are there."""
    path = folder / _COMPLETE
    found = read_json(path)
    if {key: found.get(key) for key in ("params", "recipe")} != _identity(params, recipe):
        raise CheckpointError(f"{path} belongs to another recipe. Give this recipe a folder of its own.")
    try:
        emas = {str(rate): folder / name for rate, name in found["emas"].items()}
        checkpoints = [folder / name for name in found["checkpoints"]]
        facts = {str(key): float(value) for key, value in found["facts"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error!r}). Restore it, or delete the folder {folder} to train again."
        ) from error
    for file in [*checkpoints, *emas.values()]:
        if not file.is_file():
            raise CheckpointError(
                f"{file} is gone, though {path} lists it. Restore it, or delete the folder {folder} to train again "
                f"from the start."
            )
    return TrainedSet(folder / "checkpoints", emas, facts)


class _Training:
    """One training in one folder, from wherever it stands to the end."""

    def __init__(self, params: CDParams, recipe: CDRecipe, dataset: Dataset, folder: Path, progress: Progress) -> None:
        self.params = params
        self.recipe = recipe
        self.folder = folder
        self.progress = progress
        self.images = torch.from_numpy(dataset.images("train"))
        shape = (params.network.out_channels, params.network.img_resolution, params.network.img_resolution)
        if self.images.dtype != torch.float32 or self.images.ndim != 4 or tuple(self.images.shape[1:]) != shape:
            raise InputError(
                f"data set {dataset.name}: its images are {list(self.images.shape[1:])} {self.images.dtype}, the "
                f"network makes {list(shape)} torch.float32. Set family.network.img_resolution, in_channels and "
                f"out_channels to the images'."
            )
        digest = hashlib.sha256(dataset.images("train").tobytes()).hexdigest()
        self.identity = json.dumps({**_identity(params, recipe), "images": digest}, sort_keys=True)
        self.facts: dict[str, float] = {"peak_memory_bytes": 0.0, "seconds_teacher": 0.0, "seconds_distillation": 0.0}
        self.grid = karras_grid(params.scales, params.sigma_min, params.sigma_max, params.rho)
        self._clock = time.perf_counter()

    def run(self) -> None:
        """Train what is missing."""
        reset_peak()
        phase, state = self._resume()
        if phase == "teacher":
            teacher = self._teacher(state)
            self._loop("teacher", teacher, self.recipe.teacher_steps, self._denoising(teacher))
            write_tensors(self.folder / _TEACHER, teacher.weights(ema=0), {"step": str(teacher.step)})
            self.facts["loss_teacher"] = teacher.running_loss
            state = {}
        student, loss = self._student(state)
        if not state:
            self._save("distillation", student)
        self._loop("distillation", student, self.recipe.steps, loss)
        self._finish(student)

    def _teacher(self, state: dict[str, Tensor]) -> Trainee:
        network = SongUNet(self.params.network, self._generator("init"))
        teacher = Trainee(network, torch.optim.Adam, self.recipe.teacher_lr, [self.recipe.teacher_ema_rate])
        if state:
            teacher.restore(state)
        return teacher

    def _denoising(self, teacher: Trainee) -> Callable[[int], Tensor]:
        recipe, sigma_data = self.recipe, self.params.sigma_data
        denoise = Denoiser(teacher.network, sigma_data)

        def loss(step: int) -> Tensor:
            generator = self._generator("teacher", step)
            images, noise = self._draw(recipe.teacher_batch, generator)
            sigma = lognormal_sigmas(len(images), generator)
            return denoising_loss(denoise, images, noise, sigma, sigma_data)

        return loss

    def _student(self, state: dict[str, Tensor]) -> tuple[Trainee, Callable[[int], Tensor]]:
        params, recipe = self.params, self.recipe
        weights, _ = read_tensors(self.folder / _TEACHER)
        networks = [SongUNet(params.network) for _ in range(3)]
        for network in networks:
            network.load_state_dict(weights)
        rates = [*recipe.ema_rates, *([recipe.target_rate] if recipe.target == "ema" else [])]
        student = Trainee(networks[0], torch.optim.RAdam, recipe.lr, rates)
        if state:
            student.restore(state)
        consistency = target = Denoiser(networks[0], params.sigma_data, boundary=params.sigma_min)
        if recipe.target == "ema":
            student.follow(networks[1], ema=len(rates) - 1)
            target = Denoiser(networks[1], params.sigma_data, boundary=params.sigma_min)
        pairs = self._pairs(Denoiser(networks[2], params.sigma_data))

        def loss(step: int) -> Tensor:
            return distillation_loss(consistency, target, pairs(step), recipe.loss)

        return student, loss

    def _pairs(self, teacher: Denoiser) -> Callable[[int], FlowPair]:
        """The training data of each step of the distillation.

        Made for a block of steps at once, which takes the teacher half the time. A block's randomness follows from its
        number alone, so a training that is resumed in the middle of a block makes the very same block again.
        """
        batch, last = self.recipe.batch, self.params.scales - 1
        length = max(1, _BLOCK // batch)
        made: dict[int, list[FlowPair]] = {}

        def pairs(step: int) -> FlowPair:
            block, position = divmod(step, length)
            if block not in made:
                made.clear()
                generator = self._generator("distillation", block)
                images, noise = self._draw(length * batch, generator)
                index = torch.randint(last, (len(images),), generator=generator)
                made[block] = flow_pairs(teacher, images, noise, index, self.grid).split(batch)
            return made[block][position]

        return pairs

    def _generator(self, *names: str | int) -> torch.Generator:
        return torch.Generator().manual_seed(child_seed(self.recipe.seed, "cd", *names))

    def _draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        images = self.images[torch.randint(len(self.images), (count,), generator=generator)]
        return images, torch.randn(images.shape, generator=generator)

    def _loop(self, phase: str, trainee: Trainee, steps: int, loss: Callable[[int], Tensor]) -> None:
        """Train to `steps`, saving checkpoints of the student and states of both on the way."""
        stage_name = "train teacher" if phase == "teacher" else "distil"
        with self.progress.stage(stage_name, steps, trainee.step) as stage:
            while trainee.step < steps:
                if self.progress.should_stop():
                    self._save(phase, trainee)
                    raise Interrupted(
                        f"training stopped at step {trainee.step} of {steps} ({stage_name}); "
                        f"the same command continues."
                    )
                trainee.update(loss(trainee.step))
                if phase == "distillation" and trainee.step % self.recipe.save_every == 0:
                    path = self.folder / self._checkpoint(trainee.step)
                    write_tensors(path, trainee.weights(), {"step": str(trainee.step)})
                if trainee.step % self.recipe.state_every == 0 and trainee.step < steps:
                    self._save(phase, trainee)
                stage.update(trainee.step, loss=f"{trainee.running_loss:.4f}")
        self._lap(phase)

    @staticmethod
    def _checkpoint(step: int) -> str:
        return f"checkpoints/step-{step:06d}.safetensors"

    def _lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.facts[f"seconds_{phase}"] += now - self._clock
        self._clock = now
        self.facts["peak_memory_bytes"] = max(self.facts["peak_memory_bytes"], float(peak_bytes()))

    def _save(self, phase: str, trainee: Trainee) -> None:
        self._lap(phase)
        metadata = {"phase": phase, "identity": self.identity, "facts": json.dumps(self.facts)}
        write_tensors(self.folder / _STATE, trainee.state(), metadata)

    def _resume(self) -> tuple[str, dict[str, Tensor]]:
        """The phase that an earlier call stopped in, and its state; ("teacher", {}) where there was none."""
        path = self.folder / _STATE
        if not path.exists():
            return "teacher", {}
        state, metadata = read_tensors(path)
        if metadata.get("identity") != self.identity:
            raise CheckpointError(
                f"{path} belongs to another recipe or other images. Delete the folder {self.folder} to train again."
            )
        self.facts.update(json.loads(metadata["facts"]))
        return metadata["phase"], state

    def _finish(self, student: Trainee) -> None:
        recipe = self.recipe
        emas = {}
        for row, rate in enumerate(recipe.ema_rates):
            emas[str(rate)] = f"ema/ema-{rate}.safetensors"
            metadata = {"rate": str(rate), "step": str(student.step)}
            write_tensors(self.folder / emas[str(rate)], student.weights(ema=row), metadata)
        facts = {
            "seconds": self.facts["seconds_teacher"] + self.facts["seconds_distillation"],
            **self.facts,
            "loss": student.running_loss,
        }
        report = {
            "complete": True,
            **_identity(self.params, recipe),
            "checkpoints": [self._checkpoint(step) for step in recipe.saved_steps],
            "emas": emas,
            "facts": facts,
            "threads": torch.get_num_threads(),
        }
        write_json(self.folder / _COMPLETE, report)
        (self.folder / _STATE).unlink(missing_ok=True)
