from __future__ import annotations

from pathlib import Path

import torch

from wsopt.checkpoints import TorchReader


def test_lora_factors_in_a_torch_file_are_of_kind_lora(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_lora_weights-000100.bin"
    torch.save({"unet.to_q.lora.down.weight": torch.ones(2, 4), "unet.to_q.lora.up.weight": torch.ones(4, 2)}, path)
    (found,) = TorchReader().scan(path)
    assert found.stream.kind == "lora"
    assert found.step == 100
