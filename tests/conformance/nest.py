"""Checks the files of NeST: `nest_importance.npz`, `nest_classifiers.npz`."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cssegcore.method.classifier_init.pretuned import Mixture
from cssegcore.models.heads import Head
from cssegcore.models.heads.linear import Linear
from cssegcore.models.outputs import Features, Outputs
from tests.conformance.vectors import Arrays, Checked, cases, compare


def check_nest_importance(arrays: Arrays) -> Checked:
    """What every old classifier's channels have to say on the pixels of new classes."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        old = torch.from_numpy(given["weight"])
        heads = _heads([len(old), int(given["num_new"])], old.shape[1])
        heads[0].classifier.weight.data.copy_(old[:, :, None, None])
        mixture = Mixture(heads)
        for image in range(int(given["images"])):
            top, logits, labels = (
                torch.from_numpy(given[f"{name}{image}"])[None]
                for name in ("top", "logits_old", "labels")
            )
            mixture.look(_outputs(top, logits), labels.long())
        got = {"importance": mixture.importance()}
        worst = max(worst, compare(got, expected, f"nest_importance, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_nest_classifiers(arrays: Arrays) -> Checked:
    """Start values, logits while tuning with their gradients, and the weights installed."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        groups = [int(size) for size in given["groups"]]
        top = torch.from_numpy(given["top"])
        heads = _heads(groups, top.shape[1])
        for j, head in enumerate(heads):
            weight, bias = torch.from_numpy(given[f"w{j}"]), torch.from_numpy(given[f"b{j}"])
            head.classifier.weight.data.copy_(weight[:, :, None, None])
            head.classifier.bias.data.copy_(bias)
        got = _start(heads, torch.from_numpy(given["importance"]))
        mixture = Mixture(heads)
        tuned = {name: parameter for name, parameter in mixture.named_parameters()}
        for name, parameter in tuned.items():
            parameter.data.copy_(torch.from_numpy(np.asarray(given[name])))
        logits = _logits(heads, mixture, top)
        loss = (torch.linspace(-1, 1, logits.numel()).view_as(logits) * logits).sum()
        gradients = torch.autograd.grad(loss, list(tuned.values()))
        got |= {f"grad_{name}": value for name, value in zip(tuned, gradients, strict=True)}
        got["logits"] = logits.detach()
        mixture.install()
        for j, head in enumerate(heads):
            got[f"w{j}"] = head.classifier.weight.detach().flatten(1)
            got[f"b{j}"] = head.classifier.bias.detach()
        worst = max(worst, compare(got, expected, f"nest_classifiers, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def _start(heads: Sequence[Head], importance: Tensor) -> dict[str, Tensor]:
    """Starts from one pixel of each class that says just this."""
    mixture = Mixture(heads)
    mixture._sums.copy_(importance)
    mixture._counts.fill_(1)
    mixture.start()
    return {"start_channels": mixture.channels.detach(), "start_mix": mixture.mix.detach()}


def _logits(heads: Sequence[Head], mixture: Mixture, top: Tensor) -> Tensor:
    replaced = mixture.replaced()
    outputs = []
    for head in heads:
        weight, bias = head.classifier.weight, head.classifier.bias
        assert isinstance(weight, torch.nn.Parameter)
        assert isinstance(bias, torch.nn.Parameter)
        outputs.append(
            torch.nn.functional.conv2d(top, replaced.get(weight, weight), replaced.get(bias, bias))
        )
    return torch.cat(outputs, 1)


def _heads(groups: Sequence[int], depth: int) -> list[Head]:
    return [Linear().build(depth, size) for size in groups]


def _outputs(top: Tensor, logits: Tensor) -> Outputs:
    """What a network would give, but for outputs of new classes, which nobody looks at."""
    unread = top[:, :1].expand(-1, logits.shape[1], -1, -1)
    return Outputs(logits, unread, Features((), top, top))
