import heapq
import os
import re

import numpy as np
import pytest
from PIL import Image

from cssegcore.core.errors import InputError
from cssegcore.core.files import digest, read_manifest
from cssegcore.data.dataset import Dataset
from cssegcore.data.layouts.camvid import Camvid
from cssegcore.data.layouts.voc import Voc
from cssegcore.saliency import maps as maps_module
from cssegcore.saliency.backgroundness import border_contrast
from cssegcore.saliency.barrier import barrier_distance
from cssegcore.saliency.detector import LONGEST_SIDE, otsu, saliency_maps, salient, shrink
from cssegcore.saliency.maps import write_maps
from cssegcore.saliency.reading import Maps


def quiet(items, _):
    return items


def beside(place, shape):
    i, j = place
    around = ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1))
    return [(a, b) for a, b in around if 0 <= a < shape[0] and 0 <= b < shape[1]]


def lowest_ceilings(plane, floor):
    """Least possible highest value of paths from the border that never go below `floor`."""
    h, w = plane.shape
    best = np.full((h, w), np.inf)
    on_border = {(i, j) for i, j in np.ndindex(h, w) if i in (0, h - 1) or j in (0, w - 1)}
    heap = [(int(plane[p]), p) for p in on_border if plane[p] >= floor]
    heapq.heapify(heap)
    while heap:
        ceiling, place = heapq.heappop(heap)
        if ceiling < best[place]:
            best[place] = ceiling
            for p in beside(place, plane.shape):
                if plane[p] >= floor:
                    heapq.heappush(heap, (max(ceiling, int(plane[p])), p))
    return best


def exact_distance(plane):
    """The minimum over all floors of the least ceiling above them: exact, and slow."""
    return np.min([lowest_ceilings(plane, f) - f for f in np.unique(plane)], axis=0)


def random_plane(seed, h=9, w=11, levels=256):
    rng = np.random.default_rng(seed)
    return (rng.integers(0, levels, (h, w)) * (255 // (levels - 1))).astype(np.uint8)


def distance(plane):
    return barrier_distance(plane[None])[0]


class TestBarrierDistance:
    @pytest.mark.parametrize("levels", [3, 8, 256])
    def test_is_never_below_the_exact_one_and_rarely_above(self, levels):
        planes = np.stack([random_plane(seed, levels=levels) for seed in range(20)])
        exact = np.stack([exact_distance(plane) for plane in planes])
        got = barrier_distance(planes).astype(float)
        assert (got >= exact).all()
        assert (got == exact).mean() > 0.85
        assert (got - exact).mean() < 3  # of 255

    def test_is_exact_on_a_pyramid_with_a_crater(self):
        y, x = np.mgrid[:31, :41]
        depth = np.minimum.reduce([y, x, 30 - y, 40 - x])
        plane = np.where(depth < 8, 20 + 8 * depth, 30).astype(np.uint8)
        got = distance(plane)
        assert np.array_equal(got, exact_distance(plane))
        assert got[depth >= 8].min() == got[depth >= 8].max() == 8 * 7  # the rim's height

    def test_is_exact_where_there_are_two_levels_and_one_turn(self):
        plane = np.full((12, 12), 50, np.uint8)
        plane[2:10, 2:10] = 200
        plane[4:6, 4:12] = 50  # a corridor from the right border
        plane[4:9, 4:6] = 50  # that turns down
        plane[7, 8] = 50  # and a hole nobody reaches
        assert np.array_equal(distance(plane), exact_distance(plane))
        assert distance(plane)[4:9, 4:6].max() == 0
        assert distance(plane)[7, 8] == 150

    def test_goes_round_a_wall_in_every_direction(self):
        plane = np.zeros((11, 11), np.uint8)
        plane[3:8, 3:8] = 255
        plane[4:7, 4:7] = 0
        for turns in range(4):
            open_wall = plane.copy()
            open_wall[3, 5] = 0
            turned = np.rot90(open_wall, turns)
            assert np.array_equal(distance(turned), exact_distance(turned))
            assert distance(turned)[5, 5] == 0
        assert distance(plane)[5, 5] == 255

    def test_full_contrast_offers_no_path_that_does_not_exist(self):
        plane = np.array([[0, 0, 0, 0], [0, 255, 0, 0], [0, 254, 255, 0], [0, 0, 0, 0]], np.uint8)
        assert np.array_equal(distance(plane), exact_distance(plane))

    def test_dark_and_bright_are_alike(self):
        planes = np.stack([random_plane(seed) for seed in range(5)])
        assert np.array_equal(barrier_distance(255 - planes), barrier_distance(planes))

    def test_of_a_border_is_zero(self):
        plane = random_plane(0)
        got = distance(plane)
        assert not got[[0, -1]].any()
        assert not got[:, [0, -1]].any()
        assert got[1:-1, 1:-1].any()

    @pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 9)])
    def test_of_what_is_all_border_is_zero(self, shape):
        assert not distance(random_plane(1, *shape)).any()

    def test_does_not_write_into_its_input(self):
        plane = random_plane(2)
        kept = plane.copy()
        distance(plane)
        assert np.array_equal(plane, kept)


def scene(seed=0, h=60, w=80, centre=(33, 30), radius=12):
    """A bright disc on a textured ground, and where it is."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:h, :w]
    disc = np.hypot(y - centre[0], x - centre[1]) < radius
    ground = np.stack([90 + 20 * np.sin(x / 3), 100 + 20 * np.sin(y / 4), 70 + 0 * x], -1)
    photograph = np.where(disc[..., None], [220, 200, 60], ground) + rng.normal(0, 8, (h, w, 3))
    return photograph.clip(0, 255).astype(np.uint8), disc


def find(photograph):
    small = shrink(photograph)
    return salient(saliency_maps(small[None])[0], photograph.shape[:2])


def iou(found, disc):
    return (found & disc).sum() / (found | disc).sum()


def plain_contrast(photograph):
    """The margins' Mahalanobis distances, one pixel after the other."""
    h, w, _ = photograph.shape
    rows, columns = max(1, round(h / 10)), max(1, round(w / 10))
    pixels = photograph.astype(float)
    total, largest = np.zeros((h, w)), np.zeros((h, w))
    for margin in (
        pixels[:rows],
        pixels[h - rows :],
        pixels[:, :columns],
        pixels[:, w - columns :],
    ):
        margin = margin.reshape(-1, 3)
        covariance = np.cov(margin, rowvar=False, bias=True) + 50 * np.eye(3)
        away = np.empty((h, w))
        for place in np.ndindex(h, w):
            off = pixels[place] - margin.mean(0)
            away[place] = np.sqrt(off @ np.linalg.solve(covariance, off))
        away /= away.max()
        total, largest = total + away, np.maximum(largest, away)
    return total - largest


def plain_otsu(levels):
    """The threshold with the least variance within the two classes."""
    within = {}
    for t in range(255):
        parts = [p for p in (levels[levels <= t], levels[levels > t]) if p.size]
        within[t] = sum(p.size * p.var() for p in parts)
    return min(within, key=lambda t: (round(within[t], 6), t))


class TestDetector:
    def test_contrast_against_a_plain_loop(self):
        photograph, _ = scene(h=30, w=47, centre=(15, 20), radius=6)
        got = border_contrast(photograph[None])[0]
        assert got == pytest.approx(plain_contrast(photograph), abs=1e-5)

    def test_an_object_on_one_margin_still_contrasts(self):
        photograph, disc = scene(centre=(59, 40))
        got = border_contrast(photograph[None])[0]
        assert got[disc].mean() > 3 * got[~disc].mean()

    @pytest.mark.parametrize("seed", range(3))
    def test_threshold_is_otsus(self, seed):
        rng = np.random.default_rng(seed)
        levels = rng.normal(60, 15, (20, 30))
        levels[5:15, 5:15] += 120
        levels = levels.clip(0, 255).astype(np.uint8)
        assert otsu(levels) == plain_otsu(levels)

    def test_threshold_of_two_levels_parts_them(self):
        for low, high in ((0, 255), (3, 4), (0, 1), (254, 255)):
            levels = np.full((9, 9), low, np.uint8)
            levels[4, 4] = high
            assert low <= otsu(levels) < high

    @pytest.mark.parametrize("level", [0, 1, 128, 255])
    def test_one_level_has_nothing_above_its_threshold(self, level):
        levels = np.full((5, 7), level, np.uint8)
        assert not salient(levels, (5, 7)).any()

    @pytest.mark.parametrize("seed", range(3))
    def test_finds_a_bright_disc_on_a_textured_ground(self, seed):
        photograph, disc = scene(seed)
        assert iou(find(photograph), disc) > 0.8

    def test_finds_it_in_a_large_photograph_too(self):
        photograph, disc = scene(h=300, w=533, centre=(170, 200), radius=70)
        assert max(shrink(photograph).shape) == LONGEST_SIDE
        found = find(photograph)
        assert found.shape == disc.shape
        assert iou(found, disc) > 0.9

    def test_finds_one_that_touches_the_border(self):
        """No barrier lies before it: the colours of the other margins tell."""
        photograph, disc = scene(centre=(57, 40))
        assert disc[-1].any()
        assert iou(find(photograph), disc) > 0.8

    def test_finds_a_thing_that_only_its_surroundings_tell_from_the_border(self):
        """A ring of the sky's colours: the barrier sees its inside, the margins' colours do not."""
        photograph, _ = scene(radius=0)
        y, x = np.mgrid[:60, :80]
        radius = np.hypot(y - 30, x - 40)
        photograph[(radius > 14) & (radius < 18)] = 250, 250, 250
        levels = saliency_maps(photograph[None])[0]
        assert levels[radius < 10].mean() > 2 * levels[radius > 24].mean()

    @pytest.mark.parametrize("level", [0, 100, 255])
    @pytest.mark.parametrize("shape", [(40, 50), (1, 1), (1, 300), (300, 1), (2, 3)])
    def test_one_colour_has_nothing_salient(self, level, shape):
        assert not find(np.full((*shape, 3), level, np.uint8)).any()

    @pytest.mark.parametrize(
        "shape", [(1, 1), (1, 40), (40, 1), (1, 700), (700, 1), (2, 2), (3, 5)]
    )
    def test_thin_photographs_do(self, shape):
        photograph = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
        assert find(photograph).shape == shape

    def test_shrinking_averages_and_never_enlarges(self):
        photograph = scene()[0]
        assert np.array_equal(shrink(photograph), photograph)
        large = np.kron(photograph, np.ones((5, 5, 1), np.uint8))
        assert np.array_equal(
            shrink(large), shrink(np.kron(photograph, np.ones((10, 10, 1), np.uint8)))
        )
        assert shrink(large).shape == (150, 200, 3)
        stripes = np.zeros((40, 4 * LONGEST_SIDE, 3), np.uint8)
        stripes[:, ::2] = 200
        assert (shrink(stripes) == 100).all()
        assert shrink(large).mean() == pytest.approx(photograph.mean(), abs=0.5)

    @pytest.mark.parametrize("shape", [(37, 61), (150, 200)])
    def test_a_batch_is_the_same_as_one_by_one_and_again(self, shape):
        photographs = np.stack([scene(seed, *shape)[0] for seed in range(5)])
        together = saliency_maps(photographs)
        assert np.array_equal(together, saliency_maps(photographs))
        assert np.array_equal(
            together, np.concatenate([saliency_maps(p[None]) for p in photographs])
        )
        assert together.max() > 200


@pytest.fixture
def dataset(tmp_path):
    """Six photographs of two sizes in VOC's layout, without labels."""
    root = tmp_path / "dataset"
    (root / "JPEGImages").mkdir(parents=True)
    for k in range(6):
        photograph, _ = scene(k, *((60, 80), (90, 70))[k % 2])
        Image.fromarray(photograph).save(root / "JPEGImages" / f"p{k}.jpg", quality=95)
    return Dataset("discs", root, Voc(), ("background", "disc"))


class Deadly(Dataset):
    """A dataset whose photographs end the process that reads one."""

    def photograph(self, name):
        os._exit(9)


NAMES = ["p3", "p0", "p5", "p1", "p4", "p2"]


def publish(dataset, names=NAMES):
    """Writes published maps, salient in the left half, with the values SSUL's may have."""
    masks = {}
    for k, name in enumerate(names):
        height, width, _ = dataset.photograph(name).shape
        masks[name] = np.broadcast_to(np.arange(width) < width // 2, (height, width))
        path = dataset.layout.saliency(dataset.root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(masks[name] * np.uint8((1, 255)[k % 2])).save(path)
    return masks


class TestComputedMaps:
    def test_are_what_the_detector_says(self, dataset, tmp_path):
        out = tmp_path / "maps"
        said = write_maps(out, dataset, NAMES, "auto", quiet)
        maps = Maps.open(out, dataset)
        found = {name: find(dataset.photograph(name)) for name in NAMES}
        for name, mask in found.items():
            assert np.array_equal(maps.of(name), mask)
            with Image.open(out / f"{name}.png") as image:
                assert image.mode == "L"
                assert np.array_equal(np.asarray(image), mask * 255)
        share = np.concatenate([mask.ravel() for mask in found.values()]).mean()
        files = {name: digest((out / f"{name}.png").read_bytes()) for name in NAMES}
        assert said.pop("digests") == files
        assert said == {"source": "computed", "images": NAMES, "salient": pytest.approx(share)}
        assert read_manifest(out) == said | {"digests": files}
        assert 0.03 < share < 0.3

    def test_are_the_same_bytes_again_in_any_order_and_company(self, dataset, tmp_path):
        write_maps(tmp_path / "a", dataset, NAMES, "computed", quiet)
        write_maps(tmp_path / "b", dataset, NAMES[::-1], "computed", quiet)
        for name in NAMES:
            write_maps(tmp_path / "c", dataset, [name], "computed", quiet)
            first, *others = [(tmp_path / k / f"{name}.png").read_bytes() for k in "abc"]
            assert others == [first, first]

    def test_come_in_batches_of_which_none_is_lost(self, dataset, tmp_path, monkeypatch):
        write_maps(tmp_path / "once", dataset, NAMES, "computed", quiet)
        monkeypatch.setattr(maps_module, "CHUNK", 5)
        monkeypatch.setattr(maps_module, "BATCH", 2)
        write_maps(tmp_path / "often", dataset, NAMES, "computed", quiet)
        for file in [*(f"{name}.png" for name in NAMES), "manifest.json"]:
            assert (tmp_path / "often" / file).read_bytes() == (
                tmp_path / "once" / file
            ).read_bytes()

    @pytest.mark.slow
    def test_are_the_same_bytes_by_several_processes(self, dataset, tmp_path):
        write_maps(tmp_path / "one", dataset, NAMES, "computed", quiet)
        write_maps(tmp_path / "two", dataset, NAMES, "computed", quiet, 2)
        files = [*(f"{name}.png" for name in NAMES), "manifest.json"]
        one, two = ([(tmp_path / k / file).read_bytes() for file in files] for k in ("one", "two"))
        assert one == two
        dataset.photograph_path("p1").unlink()
        with pytest.raises(InputError, match=r"photograph .*p1\.jpg does not exist"):
            write_maps(tmp_path / "two", dataset, NAMES, "computed", quiet, 2)

    @pytest.mark.slow
    def test_a_process_of_several_that_is_killed_is_told(self, dataset, tmp_path):
        with pytest.raises(InputError, match="a process that computed saliency maps was killed"):
            write_maps(tmp_path, Deadly(**vars(dataset)), NAMES, "computed", quiet, 2)

    def test_progress_sees_every_image(self, dataset, tmp_path):
        seen = []

        def count(items, total):
            for item in items:
                seen.append(total)
                yield item

        write_maps(tmp_path / "maps", dataset, NAMES, "computed", count)
        assert seen == [len(NAMES)] * len(NAMES)

    def test_of_no_image_are_an_empty_manifest(self, dataset, tmp_path):
        said = write_maps(tmp_path, dataset, [], "auto", quiet)
        assert said == {"source": "computed", "images": [], "salient": 0, "digests": {}}

    def test_are_computed_if_asked_for_although_there_are_published_ones(self, dataset, tmp_path):
        publish(dataset)
        said = write_maps(tmp_path / "maps", dataset, NAMES, "computed", quiet)
        assert said["source"] == "computed"
        maps = Maps.open(tmp_path / "maps", dataset)
        assert np.array_equal(maps.of("p0"), find(dataset.photograph("p0")))

    def test_names_may_have_folders(self, tmp_path):
        root = tmp_path / "camvid"
        (root / "train").mkdir(parents=True)
        Image.fromarray(scene()[0]).save(root / "train" / "a.jpg")
        dataset = Dataset("camvid", root, Camvid(), ("background", "disc"))
        write_maps(tmp_path / "maps", dataset, ["train/a"], "auto", quiet)
        assert (tmp_path / "maps" / "train" / "a.png").exists()
        assert Maps.open(tmp_path / "maps", dataset).of("train/a").any()

    def test_missing_or_unfit_ones_are_told(self, dataset, tmp_path):
        out = tmp_path / "maps"
        with pytest.raises(InputError, match=r"manifest\.json does not exist"):
            Maps.open(out, dataset)
        write_maps(out, dataset, NAMES[:2], "computed", quiet)
        maps = Maps.open(out, dataset)
        with pytest.raises(InputError, match=r"no saliency map of 'p5'"):
            maps.of("p5")
        Image.new("L", (80, 60)).save(out / "p3.png")
        with pytest.raises(InputError, match=r"p3\.png is 80x60 .* 70x90.* run `dvc repro`"):
            maps.of("p3")
        (out / "p0.png").unlink()
        with pytest.raises(InputError, match=r"p0\.png does not exist: .* run `dvc repro`"):
            maps.of("p0")

    def test_a_photograph_that_is_gone_is_told(self, dataset, tmp_path):
        write_maps(tmp_path / "maps", dataset, NAMES, "computed", quiet)
        dataset.photograph_path("p1").unlink()
        with pytest.raises(InputError, match=r"photograph .*p1\.jpg"):
            Maps.open(tmp_path / "maps", dataset).of("p1")
        with pytest.raises(InputError, match=r"photograph .*p1\.jpg does not exist"):
            write_maps(tmp_path / "maps", dataset, NAMES, "computed", quiet)


class TestPublishedMaps:
    def test_are_preferred_and_read_in_place(self, dataset, tmp_path):
        masks = publish(dataset)
        out = tmp_path / "maps"
        said = write_maps(out, dataset, NAMES, "auto", quiet)
        assert [path.name for path in out.iterdir()] == ["manifest.json"]
        assert (said["source"], said["images"]) == ("published", NAMES)
        assert said["salient"] == pytest.approx(0.5)
        maps = Maps.open(out, dataset)
        for name, mask in masks.items():
            assert maps.of(name).dtype == bool
            assert np.array_equal(maps.of(name), mask)

    def test_a_changed_file_changes_its_digest_alone(self, dataset, tmp_path):
        publish(dataset)
        first = write_maps(tmp_path / "maps", dataset, NAMES, "published", quiet)
        path = dataset.layout.saliency(dataset.root, "p5")
        flipped = Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        flipped.save(path)
        again = write_maps(tmp_path / "maps", dataset, NAMES, "published", quiet)
        assert list(first["digests"]) == NAMES
        assert {n for n in NAMES if first["digests"][n] != again["digests"][n]} == {"p5"}

    def test_lie_where_ssul_puts_them(self, dataset):
        path = dataset.layout.saliency(dataset.root, "2007_000032")
        assert path == dataset.root / "saliency_map" / "2007_000032.png"

    @pytest.mark.parametrize("maps", ["auto", "published"])
    @pytest.mark.parametrize(
        ("spoilt", "said"),
        [
            (None, "does not exist"),
            (Image.new("L", (79, 60)), "is 79x60 pixels, its photograph 80x60"),
            (Image.new("L", (60, 80)), "is 60x80 pixels, its photograph 80x60"),
            (
                Image.new("RGB", (80, 60)),
                "has mode RGB, not one 8-bit channel (palette or grey PNG)",
            ),
            (
                Image.new("I;16", (80, 60)),
                "has mode I;16, not one 8-bit channel (palette or grey PNG)",
            ),
        ],
    )
    def test_a_missing_or_unfit_one_is_told_with_the_way_out(
        self, dataset, tmp_path, maps, spoilt, said
    ):
        publish(dataset)
        path = dataset.layout.saliency(dataset.root, "p2")
        path.unlink()
        if spoilt:
            spoilt.save(path)
        pattern = f"^saliency map {re.escape(f'{path} {said}')}: .*`maps: computed`.*$"
        with pytest.raises(InputError, match=pattern):
            write_maps(tmp_path / "maps", dataset, NAMES, maps, quiet)
        assert not (tmp_path / "maps" / "manifest.json").exists()

    def test_that_are_asked_for_must_be_there(self, dataset, tmp_path):
        with pytest.raises(InputError, match=r"saliency_map.p3\.png does not exist"):
            write_maps(tmp_path / "maps", dataset, NAMES, "published", quiet)

    def test_a_file_that_is_no_image_is_told(self, dataset, tmp_path):
        publish(dataset)
        dataset.layout.saliency(dataset.root, "p4").write_bytes(b"no image")
        with pytest.raises(InputError, match=r"saliency map .*p4\.png cannot be read"):
            write_maps(tmp_path / "maps", dataset, NAMES, "auto", quiet)
