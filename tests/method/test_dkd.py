"""DKD's two steps as the recipe trains them: what starts, moves, stands still and is saved."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from cssegcore.core.types import UpdateFactors
from cssegcore.models import checkpoint
from cssegcore.runtime.resume import ResumeFile
from tests.helpers.tiny_training import BACKBONE, CPU, Follower, Lists, plan, run, state, train_base

DROPPING = {
    "part": "deeplabv3",
    "backbone": BACKBONE,
    "output_stride": 8,
    "depth": 8,
    "decoder": "concatenated",
}
SHORT = {"epochs": 1, "model": DROPPING}


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return Lists.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def base(lists, tmp_path_factory):
    return train_base(lists, tmp_path_factory.mktemp("base") / "m", method="dkd", **SHORT)


@pytest.fixture
def trainer(lists, base):
    return lists.prepare(plan("dkd", **SHORT), "step1", base)


def heads(segmenter):
    return [
        torch.cat([h.classifier.weight.flatten(1), h.classifier.bias[:, None]], 1).detach().clone()
        for h in segmenter.groups
    ]


class TestBaseStep:
    def test_everything_learns_and_the_file_says_what_output_0_is(self, lists, base):
        trainer = lists.prepare(plan("dkd", **SHORT), "step0")
        assert list(trainer.method.losses) == ["mbce", "ac"]
        assert trainer.method.losses["mbce"].positive == 2
        assert trainer.update_factors == {}
        assert all(w.requires_grad for w in trainer.segmenter.parameters())
        assert all(m.training for m in trainer.segmenter.train().modules())
        loaded = checkpoint.load_model(base, CPU)
        assert loaded.model.background == loaded.segmenter.background == "auxiliary"
        assert [len(rows) for rows in heads(loaded.segmenter)] == [1, 2]

    def test_heads_start_at_random_as_released(self, lists):
        model = {"model": DROPPING | {"depth": 64}}
        weights = heads(lists.prepare(plan("dkd", epochs=1, **model), "step0").segmenter)
        drawn = torch.cat([rows[:, :-1] for rows in weights])
        assert drawn.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.2)


class TestIncrement:
    def test_new_classes_start_as_the_auxiliary_output(self, trainer, base):
        auxiliary, _, new = heads(trainer.segmenter)
        assert torch.equal(new, auxiliary)
        before = heads(checkpoint.load_model(base, CPU).segmenter)
        assert all(
            torch.equal(a, b) for a, b in zip(heads(trainer.segmenter), before, strict=False)
        )

    def test_weights_decay_in_the_new_head_alone(self, trainer):
        found = trainer.update_factors
        learned = {n for n, w in trainer.segmenter.named_parameters() if w.requires_grad}
        assert learned == set(found)
        assert {n for n in found if n.startswith("heads.2.")} == {
            n for n, factors in found.items() if factors == UpdateFactors(1, 1)
        }
        assert set(found.values()) == {UpdateFactors(1, 0), UpdateFactors(1, 1)}

    def test_norms_stand_still_and_all_else_moves(self, trainer, tmp_path):
        before = state(trainer.segmenter)
        trained = run(trainer, tmp_path / "r")
        assert list(trained.rows[0])[3:] == [
            *("mbce", "bce_kd", "reasoning_for", "reasoning_against", "ac")
        ]
        norms = {
            name
            for name, module in trainer.segmenter.named_modules()
            if isinstance(module, nn.BatchNorm2d)
        }
        after = state(trainer.segmenter)
        stood = {name.rpartition(".")[0] for name in before if before[name] == after[name]}
        assert stood == norms
        assert not any(
            m.training
            for m in trainer.segmenter.train().modules()
            if isinstance(m, nn.BatchNorm2d | nn.Dropout)
        )

    def test_the_terms_of_a_batch_are_those_of_the_parts(self, trainer, base):
        """The auxiliary output learns by `ac` alone; old outputs not by `mbce`."""
        objective = trainer.begin().objective
        only = {
            name: dataclasses.replace(
                objective, method=dataclasses.replace(trainer.method, losses={name: term})
            )
            for name, term in trainer.method.losses.items()
        }
        batch = next(trainer._batches(0))
        moved, decoder = {}, trainer.segmenter.extractor.decoder
        layers = [*(head.classifier for head in trainer.segmenter.groups), decoder.project[0]]
        with torch.no_grad():  # away from the old model, which it starts as
            for layer in layers:
                layer.weight += torch.randn_like(layer.weight)
        for name, alone in only.items():
            trainer.segmenter.zero_grad(set_to_none=True)
            alone.backward([batch])
            slopes = [layer.weight.grad for layer in layers]
            moved[name] = [slope is not None and bool(slope.any()) for slope in slopes]
        assert moved["ac"] == [True, False, False, False]
        assert moved["mbce"] == [False, False, True, True]
        kept = [False, True, False, True]
        assert moved["bce_kd"] == moved["reasoning_for"] == moved["reasoning_against"] == kept


class TestMemory:
    def test_exemplars_join_the_list_and_are_labelled_as_the_step_s_own(
        self, lists, base, tmp_path
    ):
        how = plan("dkd_m", **SHORT)
        how.method["replay"]["size"] = 3
        trainer = lists.prepare(how, "step1", base, lists.sources(how, "step1", base, tmp_path))
        replayed, new = trainer.data.replayed, 3
        assert replayed.concatenated
        assert len(replayed.images) == 3
        labels = [set(np.unique(label)) for _, _, label in replayed.images.decoded()]
        assert all(found <= {0, new, 255} for found in labels)
        seen = []
        hooks = dataclasses.replace(
            Follower().hooks(), progress=lambda items, count: seen.append(count) or items
        )
        trainer.train(ResumeFile(tmp_path / "r"), hooks)
        assert seen == [(len(trainer.data.images) + 3) // 2]
        how.method["replay"] |= {"labels": "shifted"}
        sources = lists.sources(how, "step1", base, tmp_path / "all")
        all_of_them = lists.prepare(how, "step1", base, sources).data.replayed.images
        old = [set(np.unique(label)) & {1, 2} for _, _, label in all_of_them.decoded()]
        assert all(old)


def test_dropout_depends_on_seed_step_and_epoch_alone(lists, tmp_path):
    def prepared(seed=1):
        return lists.prepare(plan("dkd", epochs=2, seed=seed, model=DROPPING), "step0")

    class KilledError(Exception):
        pass

    def killed(row):
        raise KilledError

    whole, cut, goes_on = prepared(), prepared(), prepared()
    torch.manual_seed(5)
    expected = run(whole, tmp_path / "whole").rows
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)  # nobody else's generator moved
    resume = ResumeFile(tmp_path / "cut")
    with pytest.raises(KilledError):
        cut.train(resume, dataclasses.replace(Follower().hooks(), epoch=killed))
    assert goes_on.train(resume, Follower().hooks()).rows == expected
    assert state(goes_on.segmenter) == state(whole.segmenter)
    still = prepared()
    still.segmenter.extractor.decoder.dropout.p = 0.0
    assert run(still, tmp_path / "still").rows != expected
