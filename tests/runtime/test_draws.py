import torch

from cssegcore.runtime.draws import Draws
from tests.helpers.tiny_training import CPU


def test_pieces_draw_what_the_whole_draws():
    whole = Draws((1, 0, 7)).normal(11, 3, CPU)
    pieces = [Draws((1, 0, 7), part, 4).normal(11, 3, CPU) for part in range(4)]
    assert torch.equal(torch.cat(pieces), whole)
    assert [len(piece) for piece in pieces] == [2, 3, 3, 3]


def test_seed_step_and_iteration_make_other_numbers():
    drawn = [Draws(s).normal(2, 2, CPU) for s in ((1, 0, 7), (2, 0, 7), (1, 1, 7), (1, 0, 8))]
    assert len({tuple(matrix.flatten().tolist()) for matrix in drawn}) == 4


def test_they_are_standard_normal_and_move_no_other_generator():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    drawn = Draws((3,)).normal(1000, 20, CPU)
    assert torch.equal(torch.get_rng_state(), state)
    assert abs(drawn.mean()) < 0.03
    assert abs(drawn.std() - 1) < 0.03
