"""Checks the files of STAR: `star_*.npz`."""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cssegcore.method._old_regions import centre_pixels, old_classes_are_seen, predicted_classes
from cssegcore.method.losses import LossInputs
from cssegcore.method.losses.mbce import new_class_cross_entropy
from cssegcore.method.losses.old_features import OldFeatures, held_features
from cssegcore.method.losses.replayed_bce import (
    ReplayedCrossEntropy,
    background_positions,
    replayed_features,
    summed_no,
)
from cssegcore.method.losses.separation import Separation, separation
from cssegcore.method.statistics import StatisticContext
from cssegcore.method.statistics.class_features import ClassFeatures
from cssegcore.models.outputs import Classifiers, Features, Outputs
from cssegcore.models.segmenter import classify
from tests.conformance.vectors import Arrays, Checked, cases, compare

SETTINGS = {"overlap": "overlapped", "disjoint": "disjoint"}


def check_star_statistics(arrays: Arrays) -> Checked:
    """What the statistic saves after a step, by both spreads, and the step's own counts."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        tensors = _tensors(given)
        num_old, added = int(given["num_old"]), int(given["num_new"])
        before = {name: tensors[name] for name in ("prototypes", "norms", "spread") if num_old > 1}
        before |= {"counts": torch.zeros(num_old, dtype=torch.float64)} if before else {}
        batches = [
            (_outputs(tensors[f"top{i}"]), tensors[f"labels{i}"])
            for i in range(int(given["batches"]))
        ]
        depth, got = batches[0][0].features.decoder_out.shape[1], {}
        for spread in ("released", "intended"):
            scene = StatisticContext(
                int(num_old > 1), {}, num_old + added, num_old, depth, before, depth
            )
            accumulator = ClassFeatures(spread).start(scene)
            accumulator.conclude(iter(batches))
            saved = accumulator.result()
            got[f"{spread}_spread"] = saved["spread"]
        got |= {name: saved[name] for name in ("prototypes", "norms")}
        # of an increment's background only what the old model predicts is handed on
        first = _background(batches) if before else saved["counts"][:1]
        got["counts"] = torch.cat([first, saved["counts"][num_old:]])
        worst = max(worst, compare(_detached(got), expected, f"star_statistics, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_star_schedule(arrays: Arrays) -> Checked:
    """What the old model predicts in its pass, and what follows for an iteration and a step."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        tensors = _tensors(given)
        num_old, added = int(given["num_old"]), int(given["num_new"])
        part = ClassFeatures(setting=SETTINGS[str(given["setting"])])
        before = {
            "prototypes": torch.ones(num_old - 1, 1),
            "norms": torch.ones(2, num_old - 1),
            "spread": torch.ones(num_old - 1, 1),
            "counts": tensors["counts_before"].double(),
        }
        iterations = int(given["iterations"])
        scene = StatisticContext(1, {}, num_old + added, num_old, 1, before, 1, iterations)
        accumulator, batches = part.start(scene), []
        for i in range(sum(name.startswith("labels") for name in given)):
            labels, sampled = tensors[f"labels{i}"], tensors[f"logits_old{i}"]
            factor = labels.shape[-1] // sampled.shape[-1]
            full = sampled.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
            batches.append((_outputs(sampled[:, :1], _with_background(full)), labels))
        accumulator.prepare(iter(batches))
        state = accumulator.state
        schedule = part.replay_schedule(before["counts"], state["predicted"], added, iterations)
        step = tensors["counts_step"].double()
        got = {
            "predicted": state["predicted"],
            "per_iteration": torch.bincount(state["replayed"], minlength=num_old - 1),
            "extra_background": state["extra_background"],
            "counts_after": torch.cat([schedule.counts, step[1:]]),
            "background_before": schedule.background,
        }
        worst = max(worst, compare(_detached(got), expected, f"star_schedule, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_star_regions(arrays: Arrays) -> Checked:
    """What the old model sees, where it sees old classes, and where nothing is seen."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        labels, logits = _tensors(given)["labels"], _with_background(_tensors(given)["logits_old"])
        height, width = expected["background_sampled"].shape[1:]
        got = {
            "pred": predicted_classes(logits),
            "old_region": (labels == 0) & old_classes_are_seen(logits),
            "background_sampled": background_positions(labels, logits, (height, width)),
        }
        worst = max(worst, compare(_detached(got), expected, f"star_regions, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_star_pkd(arrays: Arrays) -> Checked:
    """The distance of features inside a region, and its gradient."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        tensors = _tensors(given)
        top = tensors["top"].requires_grad_()
        loss = held_features(top, tensors["top_old"], tensors["old_region"])
        got = {"loss": loss, "grad_top": torch.autograd.grad(loss, top)[0]}
        worst = max(worst, compare(_detached(got), expected, f"star_pkd, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_star_separation(arrays: Arrays) -> Checked:
    """The distance of new classes from old prototypes, and its gradient."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        tensors = _tensors(given)
        top = tensors["top"].requires_grad_()
        numbers = int(given["num_old"]), int(given["num_new"])
        loss = separation(top, tensors["labels"], tensors["prototypes"], *numbers)
        got = {"loss": loss, "grad_top": torch.autograd.grad(loss, top)[0]}
        worst = max(worst, compare(_detached(got), expected, f"star_separation, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_star_replay_features(arrays: Arrays) -> Checked:
    """The vectors that are made of given normal numbers, and their classes."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        tensors = _tensors(given)
        per_class = tensors["per_class"]
        classes = torch.arange(len(per_class)).repeat_interleave(per_class)
        normals = tensors["normal_direction"], tensors["normal_length"]
        got = {"features": replayed_features(tensors, classes, *normals), "classes": classes + 1}
        worst = max(worst, compare(_detached(got), expected, f"star_replay_features, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_star_total(arrays: Arrays) -> Checked:
    """The weighted sum of the three parts on one batch, what it is made of, and all gradients."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        tensors = _tensors(given)
        learned = [n for n in tensors if n == "top" or (n[0] in "wb" and n[1:].isdigit())]
        for name in learned:
            tensors[name].requires_grad_()
        batch, replayed = _total_batch(given, tensors)
        weights = [float(weight) for weight in given["weights"]]
        mbce = ReplayedCrossEntropy(float(given["pos_weight"]))(batch)
        pkd, apart = OldFeatures()(batch), Separation()(_apart(batch, tensors["prototypes"]))
        total = sum(w * term for w, term in zip(weights, (mbce, pkd, apart), strict=True))
        gradients = torch.autograd.grad(total, [tensors[n] for n in learned], allow_unused=True)
        old, small = batch.old_outputs.logits, batch.new.logits_lowres[:, batch.num_old :]
        size = small.shape[2], small.shape[3]
        places = small.shape[0] * size[0] * size[1]
        sampled = background_positions(batch.annotated, old, size)
        no = summed_no(small.movedim(1, -1))[sampled]
        own = (batch.logits, batch.annotated, batch.num_old, float(given["pos_weight"]))
        got = {
            "logits_old": old[:, 1:],
            "old_region": (batch.annotated == 0) & old_classes_are_seen(old),
            "background_sampled": sampled,
            "own": new_class_cross_entropy(*own).mean(),
            "replay": summed_no(F.linear(replayed, *_new_rows(batch))).mean(),
            "background": no.mean() if len(no) else torch.zeros(()),
            "weight_replay": torch.tensor(len(replayed) / places),
            "weight_background": tensors["extra_background"] * sampled.sum() / places,
            "mbce": mbce,
            "pkd": pkd,
            "separation": apart,
            "total": total,
        }
        for name, gradient in zip(learned, gradients, strict=True):
            got[f"grad_{name}"] = torch.zeros_like(tensors[name]) if gradient is None else gradient
        worst = max(worst, compare(_detached(got), expected, f"star_total, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def check_star_inference(arrays: Arrays) -> Checked:
    """The decision of a network whose background is rejected."""
    worst = 0.0
    for at, given, expected in cases(arrays):
        logits = _with_background(_tensors(given)["logits"])
        got = {"pred": classify(logits, None, "rejected")}
        worst = max(worst, compare(_detached(got), expected, f"star_inference, case {at}"))
    return Checked(int(arrays["n_cases"]), worst)


def _total_batch(given: Arrays, tensors: Mapping[str, Tensor]) -> tuple[LossInputs, Tensor]:
    """Builds the batch; its statistic has a class for each vector, which does not spread."""
    groups, labels = range(len(given["groups"])), tensors["labels"]
    weight = torch.cat([tensors[f"w{j}"] for j in groups])
    bias = torch.cat([tensors[f"b{j}"] for j in groups])
    heads = Classifiers(F.pad(weight, (0, 0, 1, 0)), F.pad(bias, (1, 0)))
    num_old, replayed = int(given["num_old"]), tensors["replayed"]
    old_heads = Classifiers(heads.weight[:num_old].detach(), heads.bias[:num_old].detach())
    count = len(replayed)
    gathered = {
        "prototypes": replayed,
        "spread": torch.zeros_like(replayed),
        "norms": torch.stack([torch.ones(count), torch.zeros(count)]),
        "replayed": torch.arange(count),
        "extra_background": tensors["extra_background"],
    }
    size = labels.shape[-2:]
    new, old = (
        _scored(top, head, size)
        for top, head in ((tensors["top"], heads), (tensors["top_old"], old_heads))
    )
    statistics = {"class_features": gathered}
    batch = LossInputs(new, old, labels, labels, num_old, statistics, classifiers=heads)
    return batch, replayed


def _apart(batch: LossInputs, prototypes: Tensor) -> LossInputs:
    statistics = {"class_features": {"prototypes": prototypes}}
    outputs = (batch.new, batch.old, batch.labels, batch.annotated, batch.num_old)
    return LossInputs(*outputs, statistics)


def _new_rows(batch: LossInputs) -> tuple[Tensor, Tensor]:
    heads = batch.head_weights
    return heads.weight[batch.num_old :], heads.bias[batch.num_old :]


def _scored(top: Tensor, heads: Classifiers, size: torch.Size) -> Outputs:
    small = F.conv2d(top, heads.weight[:, :, None, None], heads.bias)
    return _outputs(top, F.interpolate(small, tuple(size), mode="bilinear"), small)


def _outputs(top: Tensor, logits: Tensor | None = None, small: Tensor | None = None) -> Outputs:
    """A network's outputs of which only what is given matters."""
    logits = top[:, :1] if logits is None else logits
    return Outputs(logits, logits if small is None else small, Features((), top[:, :1], top))


def _with_background(logits: Tensor) -> Tensor:
    """Puts the constant 0 in front, which stands for the background."""
    return torch.cat([torch.zeros_like(logits[:, :1]), logits], 1)


def _background(batches: list[tuple[Outputs, Tensor]]) -> Tensor:
    sampled = [centre_pixels(lab, out.features.decoder_out.shape[-2:]) for out, lab in batches]
    return torch.stack([(labels == 0).sum() for labels in sampled]).sum()[None].double()


def _tensors(given: Arrays) -> dict[str, Tensor]:
    numeric = {n: v for n, v in given.items() if v.dtype.kind in "biuf"}
    # labels of whole numbers, as batches have them
    return {
        n: torch.from_numpy(v.astype(np.int64) if v.dtype == np.uint8 else v.copy())
        for n, v in ((n, np.asarray(v)) for n, v in numeric.items())
    }


def _detached(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}
