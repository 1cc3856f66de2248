import dataclasses
import json
import os
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.nn.modules.batchnorm import _BatchNorm

from cssegcore.core.errors import InputError
from cssegcore.core.normalization import IMAGENET
from cssegcore.data.augmentation import Augmentation
from cssegcore.data.batches import training_batches
from cssegcore.models import checkpoint
from cssegcore.runtime.device import choose_device
from cssegcore.runtime.distributed import (
    ALONE,
    World,
    all_gather,
    all_reduce_sum,
    process_group,
    shard,
    world,
)
from cssegcore.training.setup import StageInputs
from tests.helpers import tiny_dataset as scenes
from tests.helpers.known_networks import varied
from tests.helpers.noise_synthesis import write_noise
from tests.helpers.process_pair import (
    CASES,
    EPOCHS,
    evaluated,
    generated,
    labelled,
    planned,
    prepared,
    recipe,
    together,
    trained,
)
from tests.helpers.tiny_training import AUGMENTATIONS, CPU, Lists, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder all trainings start from, its lists, and what one process makes of each case."""
    folder, told = tmp_path_factory.mktemp("alone"), {}
    lists = Lists.write(folder)
    for case in CASES:
        how, previous, own = (
            planned(recipe(case)),
            folder / f"{case}.safetensors",
            folder / f"of {case}",
        )
        trainer = lists.prepare(how, "step0", None, lists.sources(how, "step0", None, own))
        result = run(trainer, own.with_suffix(".resume"))
        checkpoint.save(previous, trainer.segmenter, trainer.model, result.statistics)
        if how.method["replay"]["part"] == "deepinversion":
            sources = StageInputs(synthesis=write_noise(lists, previous, own, 4))
        else:
            sources = lists.sources(how, "step1", previous, own)
        left = {"method": how.method, "sources": dataclasses.asdict(sources)}
        (folder / f"{case}.json").write_text(json.dumps(left, default=str))
        told[case] = trained(prepared(lists, folder, case), folder / f"{case}.resume")
    seeing = checkpoint.load_model(folder / "mib.safetensors", CPU)
    checkpoint.save(folder / "varied.safetensors", varied(seeing.segmenter), seeing.model, {})
    return folder, lists, {**told, "tested": evaluated(lists, folder)}


@pytest.fixture(scope="module")
def pair(alone):
    """What two processes make of the same, each by itself."""
    return together(alone[0])


def assert_alike(one, other, tolerance=1e-4):
    """Both trainings ended the same, up to rounding; running statistics are in the state."""
    assert one["state"].keys() == other["state"].keys()
    for name, value in one["state"].items():
        assert torch.allclose(value.double(), other["state"][name].double(), tolerance, tolerance)
    assert len(one["rows"]) == len(other["rows"])
    for row, wanted in zip(one["rows"], other["rows"], strict=True):
        assert row == pytest.approx(wanted, rel=tolerance, abs=tolerance)


class TestTwoProcesses:
    @pytest.mark.parametrize("case", CASES)
    def test_they_train_as_one_does(self, alone, pair, case):
        folder, _, told = alone
        assert_alike(pair[0][case], told[case])
        start = checkpoint.load_model(folder / f"{case}.safetensors", CPU).segmenter.state_dict()
        moved = [not torch.allclose(told[case]["state"][k], v, 1e-2) for k, v in start.items()]
        assert any(moved)  # or it would be easy

    @pytest.mark.parametrize("case", CASES)
    def test_both_hold_the_same_bits_and_one_writes(self, alone, pair, case):
        one, other = (told[case] for told in pair)
        assert one["rows"] == other["rows"]
        assert all(torch.equal(v, other["state"][k]) for k, v in one["state"].items())
        assert (alone[0] / f"{case}0.resume").exists()
        assert not (alone[0] / f"{case}1.resume").exists()

    def test_killed_they_go_on_where_they_were(self, pair):
        for told in pair:
            assert told["resumed"]["epochs"] == 1
            assert_alike(told["resumed"], told["ewc"], 0)

    def test_they_test_as_one_does(self, alone, pair):
        wanted = alone[2]["tested"]
        assert len(wanted["kept"]) == 5
        assert 0 < wanted["further"]["sharp"]["all"] < 100
        assert 0 < wanted["watched"]["val_miou"] < 100
        assert np.count_nonzero(wanted["matrix"].sum(0)) > 1
        for told in pair:
            assert np.array_equal(told["tested"]["matrix"], wanted["matrix"])
            assert told["tested"]["further"] == wanted["further"]
            assert told["tested"]["watched"] == wanted["watched"]
            assert told["tested"]["kept"].keys() == wanted["kept"].keys()
            for name, label in wanted["kept"].items():
                assert np.array_equal(told["tested"]["kept"][name], label)

    def test_they_label_as_one_does(self, alone, pair):
        folder, lists, _ = alone
        names = labelled(lists, folder, folder / "labelled by one")
        files = {
            how: {
                str(path.relative_to(folder / how)): path.read_bytes()
                for path in (folder / how).rglob("*.*")
            }
            for how in ("labelled by one", "labelled by two")
        }
        assert len(files["labelled by one"]) > 2 * len(lists.of("step2", "seen").images)
        assert files["labelled by two"] == files["labelled by one"]
        one, other = (told["pseudo-labelled"] for told in pair)
        assert min(len(one), len(other)) > 4  # each had its part
        assert sorted(one + other) == sorted(names)

    def test_they_draw_images_out_of_a_model_as_one_does(self, alone, pair):
        folder, lists, _ = alone
        count = generated(lists, folder, folder / "generated by one")
        one, two = (
            {
                str(path.relative_to(folder / how)): path.read_bytes()
                for path in (folder / how / "images").rglob("*.*")
            }
            for how in ("generated by one", "generated by two")
        )
        assert one == two
        (numbers,) = json.loads(one["images/manifest.json"])["steps"]
        assert numbers["batches"] == count == sum(told["generated"] for told in pair)
        assert count > 3  # a second round, for what was not good enough
        assert min(told["generated"] for told in pair) > 1
        left = [
            sorted(p.name for p in (folder / how).glob("*.pt"))
            for how in ("generated by one", "generated by two")
        ]
        assert left[0] == left[1]
        assert len(left[0]) == count

    def test_a_batch_of_fewer_images_is_refused_by_both(self, pair):
        said = "step1: a batch of 1 images cannot be shared by 2 processes, each in 1 pieces"
        assert [told["refused"].startswith(said) for told in pair] == [True, True]


class TestPatience:
    """Of processes that wait for one that was killed, or stopped."""

    @pytest.fixture
    def started(self, monkeypatch):
        said = {}
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setattr("torch.distributed.init_process_group", lambda *_, **k: said.update(k))
        monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: None)
        return said

    @pytest.mark.parametrize(("given", "seconds"), [("", 600), ("7", 7)])
    def test_it_has_an_end(self, started, monkeypatch, given, seconds):
        monkeypatch.setenv("CSSEGCORE_PATIENCE", given)
        with process_group(CPU):
            assert started["timeout"].total_seconds() == seconds

    def test_who_waits_for_long_work_has_more_of_it(self, started, monkeypatch):
        for given, seconds in (("7", 50), ("70", 70)):
            monkeypatch.setenv("CSSEGCORE_PATIENCE", given)
            with process_group(CPU, patience=50):
                assert started["timeout"].total_seconds() == seconds

    def test_of_no_number_is_refused(self, started, monkeypatch):
        monkeypatch.setenv("CSSEGCORE_PATIENCE", "long")
        with pytest.raises(InputError, match="CSSEGCORE_PATIENCE is 'long'"), process_group(CPU):
            pass

    @pytest.mark.parametrize(
        "error",
        [
            RuntimeError("[third_party/gloo/buffer.cc:81] Timed out waiting 7000ms for recv"),
            RuntimeError("[third_party/gloo/pair.cc:534] Connection closed by peer"),
            torch.distributed.DistStoreError("wait timeout"),
        ],
    )
    def test_ends_with_one_line(self, started, error):
        said = "another process .* run the same command again"
        with pytest.raises(InputError, match=said), process_group(CPU):
            raise error

    def test_another_error_is_its_own(self, started):
        with pytest.raises(RuntimeError, match="shape"), process_group(CPU):
            raise RuntimeError("shape mismatch")


class TestAccumulation:
    @pytest.mark.parametrize("case", ["labelled", "mib", "lgkd", "ssul_m", "made"])
    def test_pieces_make_the_batch_where_norms_stand_still(self, alone, tmp_path, case):
        folder, lists, _ = alone
        told = []
        for pieces in (1, 2, 3):
            trainer = prepared(lists, folder, case, batch_size=4, accumulate=pieces)
            modules = trainer.segmenter.modules()
            trainer.segmenter.keep_eval(m for m in modules if isinstance(m, _BatchNorm))
            told.append(trained(trainer, tmp_path / str(pieces)))
        assert_alike(told[1], told[0])
        assert_alike(told[2], told[0])

    def test_norms_see_a_piece_at_a_time(self, alone, tmp_path):
        folder, lists, _ = alone
        trainer = prepared(lists, folder, "ft", accumulate=3)
        before = trainer.segmenter.state_dict()["extractor.norm.num_batches_tracked"].item()
        run(trainer, tmp_path / "r")
        after = trainer.segmenter.state_dict()["extractor.norm.num_batches_tracked"].item()
        assert after - before == EPOCHS * 3

    def test_nothing_labelled_is_nothing(self, alone, tmp_path):
        folder, lists, _ = alone
        trainer = prepared(lists, folder, "labelled", batch_size=4, accumulate=2)
        for sample in map(trainer.data.images.sample, range(len(trainer.data.images))):
            for labels in sample.maps:
                labels[:] = 255
        (row, *_) = run(trainer, tmp_path / "r").rows
        assert row["loss"] == 0


class TestAlone:
    def test_nothing_is_joined_or_changed(self, monkeypatch):
        values = torch.ones(3)
        for size in (None, "1"):
            monkeypatch.delenv("WORLD_SIZE", raising=False)
            if size:
                monkeypatch.setenv("WORLD_SIZE", size)
            with process_group(CPU) as here:
                assert here == world() == ALONE
                assert all_reduce_sum(values) is values
                assert all_gather(7) == [7]
        assert not torch.distributed.is_initialized()

    @pytest.mark.parametrize(("count", "parts"), [(3, 2), (7, 3), (8, 8), (24, 5)])
    def test_shares_are_all_and_alike(self, count, parts):
        shares = [range(count)[shard(count, at, parts)] for at in range(parts)]
        assert [n for part in shares for n in part] == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        assert World(1, parts).shard(count) == shard(count, 1, parts)


class TestBatches:
    @pytest.mark.parametrize("case", ["ssul_m", "made"])
    @pytest.mark.parametrize("size", [2, 3])
    def test_the_shares_are_the_batch(self, alone, case, size):
        folder, lists, _ = alone
        data = prepared(lists, folder, case).data
        replayed = data.replayed
        if case == "made":
            replayed = dataclasses.replace(replayed, sources=np.arange(len(replayed.images)))

        def epoch(place):
            rng = np.random.default_rng(1)
            views = Augmentation.of(AUGMENTATIONS)
            return training_batches(data.images, views, 4, rng, CPU, IMAGENET, replayed, place)

        def joined_up(batches):
            beside = [b.replayed for b in batches if b.replayed]
            parts = [(b.images, b.labels, b.annotated) for b in batches]
            again = [(b.images, b.labels, torch.tensor(b.sources)) for b in beside]
            return [torch.cat(t) for some in (parts, again) for t in zip(*some, strict=True)]

        wanted = list(epoch(ALONE))
        for whole, *shares in zip(
            wanted, *(epoch(World(r, size)) for r in range(size)), strict=True
        ):
            for parts in (shares, whole.pieces(size)):
                assert [len(p.images) for p in parts] == ([2, 2] if size == 2 else [1, 1, 2])
                for got, value in zip(joined_up(parts), joined_up([whole]), strict=True):
                    assert torch.equal(got, value)
            assert whole.pieces(1) == [whole]


class TestDevice:
    @pytest.fixture
    def made(self, monkeypatch):
        """Devices that were asked for; all of them are there."""
        asked = []
        monkeypatch.setattr(torch, "empty", lambda *_, device: asked.append(str(device)))
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: asked.append(f"set {device}"))
        monkeypatch.delenv("LOCAL_RANK", raising=False)
        return asked

    @pytest.mark.parametrize(
        ("wanted", "rank", "asked"),
        [
            ("cuda", None, ["cuda"]),
            ("cuda", "1", ["cuda:1", "set cuda:1"]),
            ("cuda:2", None, ["cuda:2", "set cuda:2"]),
            ("cpu", "1", ["cpu"]),
        ],
    )
    def test_each_process_of_a_machine_has_its_gpu(self, made, monkeypatch, wanted, rank, asked):
        monkeypatch.setenv("CSSEGCORE_DEVICE", wanted)
        if rank:
            monkeypatch.setenv("LOCAL_RANK", rank)
        assert str(choose_device()) == made[0]
        assert made == asked


class TestCommand:
    @pytest.fixture
    def processes(self, monkeypatch):
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "PET_NNODES", "OMP_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)

        def ask(count, **environment):
            monkeypatch.setenv("CSSEGCORE_PROCESSES", count)
            for name, value in environment.items():
                monkeypatch.setenv(name, value)

        return ask

    @pytest.fixture
    def launched(self, monkeypatch):
        calls = []
        monkeypatch.setattr(torchrun, "run", calls.append)
        return calls

    def test_training_is_the_same_by_two(self, project, processes, tmp_path):
        project.set("optimizer.batch_size", 3)
        assert project.run(*scenes.BEFORE_TRAINING, "train@step0").status == 0
        folder = project.folder / "work" / "step0"
        model, curve = folder / "model.safetensors", folder / "epochs.csv"
        wanted, rows = load_file(model), curve.read_text()
        model.unlink()
        curve.unlink()
        for path in (project.folder / ".cssegcore" / "resume").iterdir():
            path.unlink()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(scenes.HOME)}
        environment |= {"CSSEGCORE_PROCESSES": "2", "CSSEGCORE_TRACKING": "later"}
        done = subprocess.run(
            [sys.executable, "-m", *project.commands["train@step0"]],
            cwd=project.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
            "step0 epoch 1/1",
            "step0",
        ]
        got = load_file(model)
        assert got.keys() == wanted.keys()
        for name, value in wanted.items():
            assert torch.allclose(got[name].double(), value.double(), 1e-4, 1e-4)
        assert numbers(curve.read_text()) == pytest.approx(numbers(rows), rel=1e-4)
        left = (project.folder / ".cssegcore" / "resume").iterdir()
        assert sorted(path.suffix for path in left) == [".finished", ".pt"]
        (journal,) = (project.folder / ".cssegcore" / "tracking").glob("*.jsonl")
        events = [json.loads(line) for line in journal.read_text().splitlines()]
        values = [e["values"] for e in events if e["kind"] == "Metrics"]
        assert [v["peak_memory_mib"] > 10 for v in values if "peak_memory_mib" in v] == [True]
        assert sum("lr" in v for v in values) == 1

    def test_what_it_tells_torchrun(self, project, processes, launched):
        module, *arguments = project.commands["evaluate@step0"]
        processes("3")
        with mock.patch.object(os, "sched_getaffinity", return_value=range(8)):
            assert scenes.run_module(module, *arguments).status == 0
        assert os.environ.pop("OMP_NUM_THREADS") == "2"
        processes("2", PET_NNODES="2", PET_MASTER_ADDR="first", OMP_NUM_THREADS="5")
        assert scenes.run_module(module, *arguments).status == 0
        assert os.environ["OMP_NUM_THREADS"] == "5"
        one, two = launched
        assert (one.standalone, one.nnodes, one.nproc_per_node) == (True, "1:1", "3")
        assert (two.standalone, two.nnodes, two.nproc_per_node) == (False, "2", "2")
        assert two.master_addr == "first"
        for how in launched:
            assert how.module
            assert (how.training_script, how.training_script_args) == (module, arguments)

    def test_pseudo_labels_are_shared_where_a_model_makes_them(self, project, processes, launched):
        assert project.run("check", "index", "split").status == 0
        processes("2")
        assert project.run("pseudo_label@step1").status == 0
        assert (project.folder / "work" / "step1" / "pseudo_labels" / "manifest.json").exists()
        assert launched == []
        project.set("method.pseudo_labels", {"part": "entropy"})
        assert project.run("pseudo_label@step1").status == 0
        assert [how.nproc_per_node for how in launched] == ["2"]

    def test_images_are_drawn_out_of_a_model_together(self, project, processes, launched):
        assert project.run("check", "index", "split").status == 0
        processes("2")
        assert project.run("synthesize@step1").status == 0  # nothing to make
        assert launched == []
        project.set("method.replay", {"part": "deepinversion"})
        assert project.run("check", "synthesize@step1").status == 0
        assert [how.nproc_per_node for how in launched] == ["2"]

    def test_saliency_maps_are_shared_too(self, project, processes, monkeypatch):
        asked = []

        def write(*given):
            asked.append(given[-1])
            return {"source": "computed", "salient": 0.5}

        monkeypatch.setattr("cssegcore.saliency.maps.write_maps", write)
        assert project.run("check", "index").status == 0
        project.set("method.base.unknown_class", {"part": "salient"})
        processes("2")
        assert project.run("saliency").status == 0
        assert asked == [2]

    def test_a_process_of_torchrun_starts_no_others(self, project, processes, launched):
        processes("2", RANK="0", PET_NNODES="2")
        assert scenes.run_module(*project.commands["evaluate@step0"]).status == 2  # no model yet
        assert launched == []

    @pytest.mark.parametrize(("gpus", "device", "count"), [(4, "", 4), (4, "cpu", 1), (0, "", 1)])
    def test_auto_is_one_a_gpu(
        self, project, processes, launched, monkeypatch, gpus, device, count
    ):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        processes("auto", CSSEGCORE_DEVICE=device)
        monkeypatch.setattr("cssegcore.runtime.device.choose_device", lambda: CPU)
        scenes.run_module(*project.commands["evaluate@step0"])
        assert [how.nproc_per_node for how in launched] == [str(count)] * (count > 1)

    @pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
    def test_no_number(self, project, processes, text):
        processes(text)
        said = scenes.run_module(*project.commands["evaluate@step0"]).refusal()
        assert said == (
            f"error: CSSEGCORE_PROCESSES is {text!r}: set a number of processes, or auto.\n"
        )

    def test_one_gpu_for_two(self, project, processes):
        processes("2", CSSEGCORE_DEVICE="cuda:1")
        said = scenes.run_module(*project.commands["evaluate@step0"]).refusal()
        assert "names one GPU, 'cuda:1', for 2 processes" in said

    def test_what_one_refuses_is_said_once(self, project, processes, monkeypatch, tmp_path):
        file = tmp_path / "error.json"
        processes("2", RANK="1", TORCHELASTIC_ERROR_FILE=str(file))
        refused = scenes.run_module(*project.commands["evaluate@step0"])
        assert refused == (2, "", "")
        monkeypatch.delenv("TORCHELASTIC_ERROR_FILE")
        monkeypatch.delenv("RANK")

        def fail(_):
            raise ChildFailedError("x", {1: ProcessFailure(1, 7, 2, str(file))})

        monkeypatch.setattr(torchrun, "run", fail)
        said = scenes.run_module(*project.commands["evaluate@step0"]).refusal()
        assert said == f"error: {json.loads(file.read_text())['message']}\n"

    def test_a_process_that_was_killed(self, project, processes, monkeypatch):
        def fail(_):
            raise ChildFailedError("x", {1: ProcessFailure(1, 7, -9, "none")})

        processes("2")
        monkeypatch.setattr(torchrun, "run", fail)
        with pytest.raises(ValueError, match=r"process 1: Signal 9 \(SIGKILL\) received"):
            scenes.run_module(*project.commands["evaluate@step0"])  # which takes it for a number


def numbers(text):
    """Returns the numbers of a curve."""
    _, *rows = text.splitlines()
    return [float(value) for row in rows for value in row.split(",")]
