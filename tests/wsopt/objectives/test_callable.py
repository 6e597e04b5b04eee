from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wsopt.config.params import CallableFeaturesParams, CallableParams
from wsopt.errors import InputError
from wsopt.objectives.callable import CallableObjective
from wsopt.objectives.function_features import CallableFeatures, source_digest
from wsopt.objectives.jackknife import stderr_of
from wsopt.types import Batch

FUNCTIONS = """
import random
import numpy as np
import torch

def norm(weights, power=2.0):
    return sum((tensor.double() ** power).sum() for tensor in weights.values())

def greedy(weights):
    weights["bias"].add_(1.0)
    return 0.0

def grey(images):
    return float(images.mean())

def each(images):
    return images.mean(dim=(1, 2, 3))

def each_numpy(images):
    return np.asarray(images.mean(dim=(1, 2, 3), dtype=torch.float64))[:, None]

def hits(images, conditions):
    return sum(c == int(i) for c, i in zip(conditions, images[:, 0, 0, 0])) / len(images)

def blind(images, conditions=3):
    return 1.0 if conditions is None else 0.0

def draws(images):
    return random.random() + np.random.random() + torch.rand(()).item()

def keeps_gradients(images):
    return float(torch.ones(1, requires_grad=True).mul(2).requires_grad)

def words(images):
    return "three"

def pair(images):
    return [1.0, 2.0]

def nothing(images):
    return None

def broken(images):
    raise ArithmeticError("no")

def halves(images, parts=2):
    return images.flatten(1)[:, :parts]

def noisy(images):
    return torch.rand(len(images), 3)

def growing(images):
    return torch.zeros(len(images), len(images))

def complex_ones(images):
    return images.flatten(1).to(torch.complex64)

def blackens(images):
    return images.zero_().flatten(1)

def total(images):
    return images.sum()
"""


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    path = tmp_path / "functions.py"
    path.write_text(FUNCTIONS)
    return path


def objective(path: Path, name: str, on: str = "images", **arguments: Any) -> CallableObjective:
    made = CallableObjective(
        CallableParams.model_validate(
            {"function": f"{path}:{name}", "on": on, "direction": "maximize", "arguments": arguments}
        )
    )
    made.prepare(None)
    return made


def batches(count: int = 40, labels: bool = False) -> list[Batch]:
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (count, 1, 4, 4), generator=generator).float()
    conditions = [int(image[0, 0, 0]) if i % 4 else -1 for i, image in enumerate(images)] if labels else None
    cuts = [*range(0, count, 15), count]
    return [Batch(images[a:b], range(a, b), None if conditions is None else conditions[a:b]) for a, b in pairwise(cuts)]


def filled(made: CallableObjective, parts: list[Batch]) -> Any:
    acc = made.new()
    for part in parts:
        acc = made.add(acc, part)
    return acc


def test_the_parameters_decide_what_it_is(functions: Path) -> None:
    on_weights, on_images = objective(functions, "norm", "weights"), objective(functions, "grey")
    assert (on_weights.direction, on_weights.needs, on_weights.takes_samples) == ("maximize", "weights", False)
    assert (on_images.needs, on_images.takes_weights) == ("images", False)


def test_weights(functions: Path) -> None:
    made = objective(functions, "norm", "weights", power=1.0)
    acc = made.add_weights(made.new(), {"weight": torch.tensor([1.0, 2.0]), "bias": torch.tensor([4.0])})
    score = made.score(acc)
    assert (score.value, score.stderr, score.samples, score.replicates) == (7.0, None, 0, ())
    assert made.score(made.merge(acc, made.new())).value == 7.0
    assert made.score(made.merge(made.new(), acc)).value == 7.0


def test_weights_are_not_to_be_changed(functions: Path) -> None:
    made = objective(functions, "greedy", "weights")
    with pytest.raises(InputError, match=r"greedy changed the tensor bias in place.*clone"):
        made.add_weights(made.new(), {"weight": torch.zeros(2), "bias": torch.zeros(1)})


@pytest.mark.parametrize("inference", [False, True])
def test_weights_made_in_inference_mode(functions: Path, inference: bool) -> None:
    with torch.inference_mode(inference):
        weights = {"weight": torch.ones(3)}
    made = objective(functions, "norm", "weights")
    assert made.score(made.add_weights(made.new(), weights)).value == 3.0


def test_images_come_in_the_order_of_their_indices(functions: Path) -> None:
    made, parts = objective(functions, "each"), batches()
    straight = made.score(filled(made, parts))
    turned = made.score(made.merge(filled(made, parts[2:]), filled(made, parts[1::-1])))
    assert straight == turned
    images = torch.cat([part.images for part in parts]).double()
    assert straight.value == pytest.approx(float(images.mean()), rel=1e-6)
    assert straight.samples == 40


def test_a_value_per_image_has_a_standard_error(functions: Path) -> None:
    made, parts = objective(functions, "each_numpy"), batches()
    score = made.score(filled(made, parts))
    values = torch.cat([part.images for part in parts]).double().mean(dim=(1, 2, 3)).numpy()
    expected = [np.delete(values, np.arange(block, 40, 10)).mean() for block in range(10)]
    np.testing.assert_allclose(score.replicates, expected, rtol=1e-12)
    assert score.stderr == stderr_of(expected)
    # Of a mean, the jackknife is about the classic standard error.
    assert score.stderr == pytest.approx(values.std(ddof=1) / np.sqrt(40), rel=0.5)
    assert made.score(filled(made, parts), stderr=False).replicates == ()


def test_one_value_for_all_images_has_none(functions: Path) -> None:
    made = objective(functions, "grey")
    score = made.score(filled(made, batches()))
    assert (score.stderr, score.replicates) == (None, ())
    assert np.isnan(made.score(made.new()).value)


def test_a_score_in_between_leaves_the_rest_alone(functions: Path) -> None:
    made, parts = objective(functions, "each"), batches()
    acc = made.add(made.new(), parts[0])
    first = made.score(acc)
    for part in parts[1:]:
        acc = made.add(acc, part)
    assert first.value == made.score(filled(made, parts[:1])).value
    assert made.score(acc).value == made.score(filled(made, parts)).value != first.value


def test_levels_between_whole_ones_are_kept(functions: Path) -> None:
    made = objective(functions, "grey")
    images = torch.full((3, 1, 2, 2), 0.25)
    acc = made.add(made.new(), Batch(images, range(3)))
    images.zero_()
    assert made.score(acc).value == 0.25


def test_conditions_go_to_functions_that_name_them(functions: Path) -> None:
    made = objective(functions, "hits")
    assert made.score(filled(made, batches(labels=True))).value == 0.75
    assert objective(functions, "blind").score(filled(objective(functions, "blind"), batches())).value == 1.0


def test_random_numbers_are_the_same_each_time_and_move_nothing(functions: Path) -> None:
    made = objective(functions, "draws")
    before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["pos"], random.getstate()  # noqa: NPY002
    first, second = (made.score(filled(made, batches())).value for _ in range(2))
    assert first == second
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state(legacy=False)["state"]["pos"]  # noqa: NPY002
    assert before[2] == random.getstate()


def test_there_are_no_gradients(functions: Path) -> None:
    made = objective(functions, "keeps_gradients")
    assert made.score(filled(made, batches())).value == 0.0


@pytest.mark.parametrize(
    ("name", "found"),
    [("words", "returned str"), ("pair", r"an array of shape \[2\]"), ("nothing", "returned NoneType")],
)
def test_what_is_no_number_is_refused(functions: Path, name: str, found: str) -> None:
    made = objective(functions, name)
    with pytest.raises(InputError, match=f"{found}; an objective must return one number, or 40 of them"):
        made.score(filled(made, batches()))


def test_an_exception_of_the_function_passes_through(functions: Path) -> None:
    made = objective(functions, "broken")
    with pytest.raises(ArithmeticError, match="no"):
        made.score(filled(made, batches()))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("missing", {}, "has no function 'missing'"),
        ("grey", {"power": 2}, r"called with the images, power=.*unexpected keyword argument 'power'"),
        ("norm.more", {}, "has no function"),
    ],
)
def test_a_function_that_cannot_be_called(functions: Path, name: str, arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        objective(functions, name, **arguments)


def extractor(path: Path, name: str, **arguments: Any) -> CallableFeatures:
    return CallableFeatures(
        CallableFeaturesParams.model_validate({"function": f"{path}:{name}", "arguments": arguments})
    )


def test_features(functions: Path) -> None:
    images = torch.cat([part.images for part in batches()])
    made = extractor(functions, "halves", parts=5)
    with pytest.raises(RuntimeError, match="after its first call"):
        _ = made.dimension
    features = made(images)
    assert features.dtype == torch.float32
    assert torch.equal(features, images.flatten(1)[:, :5])
    assert made.dimension == 5
    assert torch.equal(made.extract(images, ["features"])["features"], features)


def test_features_are_not_random(functions: Path) -> None:
    made, images = extractor(functions, "noisy"), torch.zeros(4, 1, 2, 2)
    before = torch.get_rng_state()
    assert torch.equal(made(images), made(images))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["total", "words", "pair", "complex_ones"])
def test_features_of_another_shape_are_refused(functions: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"features must be real numbers of shape \[3, d\]"):
        extractor(functions, name)(torch.zeros(3, 1, 2, 2))


def test_features_that_change_the_images_change_a_copy(functions: Path) -> None:
    images = torch.ones(3, 1, 2, 2)
    extractor(functions, "blackens")(images)
    assert bool((images == 1).all())


def test_a_file_that_ends_the_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ends.py"
    path.write_text("raise SystemExit(7)\n")
    with pytest.raises(InputError, match=r"could not be imported \(SystemExit: 7\)"):
        objective(path, "anything").prepare(None)


def test_the_number_of_features_stays(functions: Path) -> None:
    made = extractor(functions, "growing")
    made(torch.zeros(3, 1, 2, 2))
    with pytest.raises(InputError, match=r"shape \[4, 4\], before that 3 per image"):
        made(torch.zeros(4, 1, 2, 2))


def test_the_digest_follows_the_source_the_name_and_the_arguments(functions: Path, tmp_path: Path) -> None:
    digests = {extractor(functions, "halves").digest, extractor(functions, "noisy").digest}
    digests.add(extractor(functions, "halves", parts=3).digest)
    assert len(digests) == 3
    copy = tmp_path / "copy.py"
    copy.write_text(FUNCTIONS)
    assert extractor(copy, "halves").digest in digests
    copy.write_text(FUNCTIONS + "# other\n")
    assert extractor(copy, "halves").digest not in digests


def test_the_digest_of_a_module(functions: Path) -> None:
    of = CallableFeaturesParams.model_validate
    one, other = of({"function": "json:loads"}).function, of({"function": "json:dumps"}).function
    assert source_digest(one) != source_digest(other)
    assert source_digest(of({"function": "math:floor"}).function) == source_digest(
        of({"function": "math:floor"}).function
    )
    with pytest.raises(InputError, match="cannot be read"):
        source_digest(of({"function": f"{functions}.gone.py:f"}).function)
