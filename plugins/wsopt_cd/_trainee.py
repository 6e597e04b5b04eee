"""A network in training: its parameters as one vector, the optimizer, the EMAs, and all of it as a resumable state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from wsopt.errors import WsoptError

_ALIGN = 16
_LOSS_RATE = 0.98


class Trainee:
    """Trains the parameters of `network` that need gradients.

    They are laid out in one vector (the network's own parameters are views of it), so that the optimizer and all EMAs
    take a handful of operations per step, however many tensors the network has.

    Args:
        network: float32, on the CPU.
        optimizer: class of the optimizer: Adam or RAdam.
        lr: learning rate.
        ema_rates: EMA rates per step; all EMAs start at the initial weights.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: type[torch.optim.Adam] | type[torch.optim.RAdam],
        lr: float,
        ema_rates: Sequence[float],
    ) -> None:
        self.network = network
        self.step = 0
        self.running_loss = math.nan
        self._spans = _attach(network)
        size = max(end for _, end in self._spans.values())
        self.vector = nn.Parameter(torch.zeros(-(-size // _ALIGN) * _ALIGN))
        self.vector.grad = torch.zeros_like(self.vector)
        with torch.no_grad():
            for name, parameter in self._trained():
                self._view(self.vector.data, name).copy_(parameter)
                parameter.data = self._view(self.vector.data, name)
                parameter.grad = self._view(self.vector.grad, name)
        self.emas = self.vector.detach().repeat(len(ema_rates), 1)
        self._shares = torch.tensor([[1 - rate] for rate in ema_rates], dtype=torch.float32)
        self.optimizer = optimizer([self.vector], lr=lr, foreach=False)

    def update(self, loss: Tensor) -> None:
        """One step down the gradient of `loss`.

        Raises:
            WsoptError: the loss is not finite.
        """
        value = loss.item()
        if not math.isfinite(value):
            raise WsoptError(
                f"the training loss became {value} at step {self.step + 1}. Lower the learning rate in [train]."
            )
        assert self.vector.grad is not None
        self.vector.grad.zero_()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.emas.lerp_(self.vector.detach(), self._shares)
        self.step += 1
        known = math.isfinite(self.running_loss)
        self.running_loss = _LOSS_RATE * self.running_loss + (1 - _LOSS_RATE) * value if known else value

    def weights(self, ema: int | None = None) -> dict[str, Tensor]:
        """Copies of the network's weights, fixed tensors included; of EMA number `ema` where given."""
        source = self.vector.detach() if ema is None else self.emas[ema]
        state = {name: tensor.detach() for name, tensor in self.network.state_dict().items()}
        for name in self._spans:
            state[name] = self._view(source, name)
        return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}

    def follow(self, network: nn.Module, ema: int) -> None:
        """Make `network`, of the same architecture, hold EMA number `ema` from now on."""
        for name, parameter in network.named_parameters():
            if name in self._spans:
                parameter.data = self._view(self.emas[ema], name)

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on."""
        moments = self.optimizer.state[self.vector]
        return {
            "vector": self.vector.detach(),
            "emas": self.emas,
            "step": torch.tensor(self.step),
            "running_loss": torch.tensor(self.running_loss, dtype=torch.float64),
            **{f"optimizer.{name}": value for name, value in moments.items()},
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a state that `state` gave."""
        with torch.no_grad():
            self.vector.copy_(state["vector"])
        self.emas.copy_(state["emas"])
        self.step = int(state["step"])
        self.running_loss = float(state["running_loss"])
        prefix = "optimizer."
        moments = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        if moments:
            self.optimizer.state[self.vector] = moments

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, parameter) for name, parameter in self.network.named_parameters() if name in self._spans]

    def _view(self, vector: Tensor, name: str) -> Tensor:
        start, end = self._spans[name]
        return vector[start:end].view(self.network.get_parameter(name).shape)


def _attach(network: nn.Module) -> dict[str, tuple[int, int]]:
    """Where each trained parameter lies in the vector: starts are aligned, as the convolutions' kernels like it."""
    spans: dict[str, tuple[int, int]] = {}
    position = 0
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            spans[name] = (position, position + parameter.numel())
            position += -(-parameter.numel() // _ALIGN) * _ALIGN
    return spans
