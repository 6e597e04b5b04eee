"""The plugin's registration, without torch."""

from __future__ import annotations

import subprocess
import sys

import wsopt_cd
from wsopt_cd.params import CDParams, CDRecipe


def test_registration() -> None:
    calls = []
    wsopt_cd.register_model_families(lambda *args, **kwargs: calls.append((args, kwargs)))
    assert calls == [(("cd", "wsopt_cd.family:ConsistencyDistillation"), {"params": CDParams, "recipe": CDRecipe})]


def test_registering_needs_neither_torch_nor_numpy() -> None:
    code = "import sys, wsopt_cd; assert not {'torch', 'numpy'} & sys.modules.keys(), 'imported too much'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fields_are_described() -> None:
    for model in (CDParams, CDRecipe, type(CDParams().network)):
        assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_default_recipe_saves_enough_checkpoints() -> None:
    recipe = CDRecipe()
    assert recipe.steps // recipe.save_every >= 150
