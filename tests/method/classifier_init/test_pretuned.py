"""NeST's mixture: importance, start values and installation next to plain NumPy."""

import numpy as np
import pytest
import torch

from cssegcore.core.errors import InputError
from cssegcore.core.registry import build_part
from cssegcore.method.classifier_init import ClassifierInit
from cssegcore.method.classifier_init.pretuned import SIDE, Mixture
from cssegcore.models.heads.conv import Conv
from cssegcore.models.heads.linear import Linear
from cssegcore.models.outputs import Features, Outputs

DEPTH = 4


def make_heads(*outputs):
    rng = torch.Generator().manual_seed(sum(outputs))
    heads = [Linear().build(DEPTH, size) for size in outputs]
    for head in heads:
        for weight in head.parameters():
            weight.data = torch.randn(weight.shape, generator=rng)
    return heads


def rows(heads):
    return np.concatenate([h.classifier.weight.detach().numpy()[:, :, 0, 0] for h in heads])


def seen(outputs, labels, seed):
    """Outputs at the size at which importance is measured, so that nothing is resized."""
    rng = torch.Generator().manual_seed(seed)
    size = (len(labels), outputs, SIDE, SIDE)
    logits = torch.randn(size, generator=rng)
    top = torch.randn((len(labels), DEPTH, SIDE, SIDE), generator=rng)
    return Outputs(logits, logits, Features((), top, top))


def soft(values, axis):
    shares = np.exp(values - values.max(axis, keepdims=True))
    return shares / shares.sum(axis, keepdims=True)


def test_importance_is_a_mean_over_the_pixels_of_each_class():
    heads = make_heads(2, 1, 3)  # old outputs 0, 1, 2; new 3, 4, 5, of which 5 is nowhere
    mixture, old = Mixture(heads), rows(heads[:-1])
    scores = [[], [], []]
    for seed in (1, 2):
        labels = torch.randint(0, 5, (2, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))
        labels[0, :9] = 255
        outputs = seen(6, labels, seed)
        mixture.look(outputs, labels)
        shares = soft(outputs.logits[:, :3].double().numpy(), 1)
        top = outputs.features.decoder_out.numpy()
        for k in range(3):
            image, y, x = np.nonzero(labels.numpy() == 3 + k)
            speaks = top[image, :, y, x][:, None] * old > 0
            scores[k].append(shares[image, :, y, x][:, :, None] * speaks)
    mixture.start()
    for k in range(2):
        wanted = np.concatenate(scores[k]).mean(0)
        assert mixture.channels[k].detach().numpy() == pytest.approx(wanted, abs=1e-5)
        assert mixture.mix[k].detach().numpy() == pytest.approx(soft(wanted.sum(1), 0), abs=1e-5)
    assert (mixture.channels[2] == 1).all(), "a class without a pixel: the mean of all old rows"
    assert mixture.mix[2].tolist() == pytest.approx([1 / 3] * 3)


def test_it_starts_with_the_background_as_it_is():
    heads = make_heads(3, 2)
    mixture = Mixture(heads)
    first, new = heads[0].classifier, heads[1].classifier
    replaced = mixture.replaced()
    assert replaced.keys() == {first.weight, new.weight, new.bias}
    assert torch.equal(replaced[first.weight], first.weight)
    assert replaced[new.bias].tolist() == [first.bias[0].item()] * 2


def test_what_is_installed_has_the_norms_of_the_old_rows():
    heads = make_heads(2, 2, 3)
    before = [p.detach().clone() for head in heads for p in head.parameters()]
    mixture, old = Mixture(heads), rows(heads[:-1])
    rng = np.random.default_rng(3)
    for parameter in mixture.parameters():
        parameter.data = torch.tensor(rng.random(tuple(parameter.shape)) + 0.1).float()
    tuned = {name: p.detach().double().numpy() for name, p in mixture.named_parameters()}
    mixture.install()

    background = tuned["background_mix"] * tuned["background_channels"] * old[0]
    background *= np.linalg.norm(old[0]) / np.linalg.norm(background)
    wanted = (tuned["mix"][:, :, None] * tuned["channels"] * old).sum(1)
    kept = np.concatenate([background[None], old[1:]])
    wanted *= np.linalg.norm(kept, axis=1).mean() / np.linalg.norm(wanted, axis=1).mean()
    old_bias = np.concatenate([before[1].numpy(), before[3].numpy()])
    bias = tuned["bias"] * np.linalg.norm(old_bias) / np.linalg.norm(tuned["bias"])

    assert rows(heads[:-1]) == pytest.approx(kept, abs=1e-5)
    assert rows(heads[-1:]) == pytest.approx(wanted, abs=1e-5)
    assert heads[-1].classifier.bias.detach().numpy() == pytest.approx(bias, abs=1e-5)
    for at, head in enumerate(heads[:-1]):
        assert torch.equal(head.classifier.bias, before[2 * at + 1])


def test_numbers_without_norm_are_left_alone():
    heads = make_heads(2, 1)
    heads[0].classifier.weight.data[0] = 0
    mixture = Mixture(heads)
    mixture.bias.data.zero_()
    mixture.install()
    assert all(p.isfinite().all() for head in heads for p in head.parameters())
    assert heads[-1].classifier.bias.item() == 0


def test_heads_with_layers_of_their_own_are_refused():
    heads = [Conv().build(DEPTH, size) for size in (2, 1)]
    part = build_part("cssegcore.method.classifier_init", ClassifierInit, {"part": "pretuned"}, "x")
    with pytest.raises(InputError, match=r"mixes the rows of linear classifiers.*to linear, or"):
        part.tuning(heads)


@pytest.mark.parametrize("numbers", [{"epochs": 0}, {"lr": 0}])
def test_numbers_that_make_no_sense_are_refused(numbers):
    with pytest.raises(InputError, match=next(iter(numbers))):
        build_part(
            "cssegcore.method.classifier_init", ClassifierInit, {"part": "pretuned", **numbers}, "x"
        )
