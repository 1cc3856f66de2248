import torch

from cssegcore.models.inference import infer
from tests.helpers.networks import images
from tests.helpers.tiny_training import new_segmenter


def test_what_is_observed_takes_part_in_losses():
    old, new = new_segmenter([3]).eval(), new_segmenter([3]).eval()
    modes = []
    old.register_forward_hook(lambda *_: modes.append(torch.is_inference_mode_enabled()))
    seen = infer(old, images(2, 24, 40))
    assert modes == [True]
    with torch.no_grad():
        wanted = old(images(2, 24, 40))
    learning = new(images(2, 24, 40))
    pairs = [
        *zip(seen.features.stages, wanted.features.stages, learning.features.stages, strict=True),
        (seen.features.decoder_out, wanted.features.decoder_out, learning.features.decoder_out),
        (seen.logits, wanted.logits, learning.logits),
    ]
    for got, same, other in pairs:
        assert torch.equal(got, same)
        assert got.stride() == same.stride()
        assert not got.requires_grad
        (got * other).sum().backward(retain_graph=True)  # keeps `got` for the backward pass
    assert all(p.grad is None for p in old.parameters())
    assert new.extractor.backbone.stem[0][0].weight.grad.abs().sum() > 0
