import numpy as np
import pytest
import torch

from cssegcore.data.batch import Batch, Sample


def numbered(count, replayed=None, sources=None):
    """Images that are known by their values."""
    numbers = torch.arange(count)[:, None, None].expand(count, 2, 3)
    return Batch(
        numbers[:, None].expand(-1, 3, -1, -1).float(), numbers, -numbers, replayed, sources
    )


@pytest.mark.parametrize(("count", "pieces"), [(7, 3), (4, 4), (5, 1)])
def test_pieces_are_the_batch_and_of_much_the_same_length(count, pieces):
    whole = numbered(count, numbered(count + 2, sources=np.arange(count + 2) * 10))
    parts = whole.pieces(pieces)
    assert len(parts) == pieces
    for field in ("images", "labels", "annotated"):
        found = torch.cat([getattr(part, field) for part in parts])
        assert torch.equal(found, getattr(whole, field))
        again = torch.cat([getattr(part.replayed, field) for part in parts])
        assert torch.equal(again, getattr(whole.replayed, field))
    for part in parts:
        assert part.replayed.sources.tolist() == (part.replayed.labels[:, 0, 0] * 10).tolist()
    lengths = [len(part.images) for part in parts]
    assert max(lengths) - min(lengths) <= 1


def test_a_batch_without_replay_has_pieces_without_it():
    assert [part.replayed for part in numbered(3).pieces(2)] == [None, None]


def test_a_sample_s_size_is_height_and_width():
    assert Sample(np.zeros((4, 6, 3), np.uint8), (np.zeros((4, 6), np.uint8),), 0).size == (4, 6)
