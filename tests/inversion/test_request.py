import dataclasses

import numpy as np
import pytest

from tests.helpers.tiny_training import Lists, plan


@pytest.fixture(scope="module")
def request_of(tmp_path_factory):
    """A function that returns the request of a step and seed."""
    folder = tmp_path_factory.mktemp("request")
    lists = Lists.write(folder / "tiny")

    def made(step="step1", seed=1):
        request = lists.synthesis(plan("ft"), step, folder / "model", folder)
        return dataclasses.replace(request, seed=seed)

    return made


def test_seed_step_and_batch_decide_what_is_drawn(request_of):
    draws = [
        request_of(step, seed).generator(*batch).integers(2**60)
        for step in ("step1", "step2")
        for seed in (1, 2)
        for batch in ((), (0,), (1,))
    ]
    # NumPy pads a seed with zeros: no batch is the batch 0
    assert draws[0::3] == draws[1::3]
    assert len(set(draws)) == 8
    assert request_of().generator(1).integers(2**60) == draws[2]


@pytest.mark.parametrize("count", [0, 1, 3, 10**6])
def test_a_sample_is_a_part_of_the_list_in_its_order(request_of, count):
    request = request_of()
    every = request.current.images
    found = request.sampled(count, np.random.default_rng(5))
    assert len(found.images) == min(count, len(every))
    places = [every.index(image) for image in found.images]
    assert places == sorted(set(places))
    assert dataclasses.replace(found, images=every) == request.current
