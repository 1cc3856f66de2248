"""What files hold becomes the right pixels, or one line says why it cannot."""

import contextlib
import io
import os

import numpy as np
import pytest
from PIL import Image, ImageOps

from cssegcore.core.errors import InputError
from cssegcore.data import images
from cssegcore.data.dataset import open_dataset
from cssegcore.data.index import build_index
from tests.helpers import tiny_dataset as scenes
from tests.helpers.png_files import png

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (7, 9, 3), np.uint8)


@pytest.fixture
def dataset(dataset_root):
    return open_dataset({"name": "x", "root": str(dataset_root), "layout": {"part": "voc"}})


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def refusal(call, *arguments, **named):
    with pytest.raises(InputError) as refused:
        call(*arguments, **named)
    assert "\n" not in str(refused.value)
    return str(refused.value)


class TestLabels:
    @pytest.mark.parametrize("depth", [1, 2, 4, 8])
    @pytest.mark.parametrize("colour", [0, 3])
    def test_samples_of_every_depth_are_class_numbers(self, dataset, depth, colour):
        numbers = RNG.integers(0, min(5, 2**depth), (24, 23))
        palette = bytes(range(3 * 2**depth)) if depth < 8 else bytes(range(256)) * 3
        content = png(numbers, depth, colour, palette if colour == 3 else None)
        dataset.label_path("t0").write_bytes(content)
        assert np.array_equal(dataset.label("t0"), numbers)
        _, shape, counts = dataset.count_labels("t0")
        assert shape == (24, 23)
        assert np.array_equal(counts, np.bincount(numbers.ravel(), minlength=256))

    def test_the_largest_sample_of_four_bits_is_fifteen(self, dataset):
        numbers = np.array([[0, 1, 14, 15]])
        assert images.labels(png(numbers, 4), dataset.label_path("t0")).tolist() == [[0, 1, 14, 15]]

    @pytest.mark.parametrize("mode", ["LA", "PA", "RGB", "RGBA", "I;16"])
    def test_other_modes_are_refused(self, dataset, mode):
        image = Image.new(mode if mode != "PA" else "LA", (24, 24))
        image.save(dataset.label_path("t0"))
        line = refusal(dataset.label, "t0")
        assert "not one 8-bit channel (palette or grey PNG): store the class number" in line

    @pytest.mark.parametrize("kind", ["JPEG", "GIF", "BMP", "TIFF"])
    def test_other_formats_are_refused(self, dataset, kind):
        Image.new("L", (24, 24), 1).save(dataset.label_path("t0"), kind)
        assert "(no image of the formats PNG)" in refusal(dataset.label, "t0")

    @pytest.mark.parametrize("turned", range(2, 9))
    def test_one_that_viewers_turn_is_refused(self, dataset, turned):
        exif = Image.Exif()
        exif[images.ORIENTATION] = turned
        Image.new("L", (24, 24), 1).save(dataset.label_path("t0"), exif=exif)
        assert f"has the EXIF orientation {turned}" in refusal(dataset.label, "t0")

    def test_several_pictures_are_refused(self, dataset):
        first, *others = (Image.new("L", (24, 24), k) for k in range(3))
        first.save(dataset.label_path("t0"), "PNG", save_all=True, append_images=others)
        line = refusal(dataset.label, "t0")
        assert "t0.png holds 3 pictures (pages of a document, frames of an animation): save" in line

    def test_no_flipped_bit_passes(self, dataset):
        """Of the file's content; what follows the last chunk is none."""
        numbers = RNG.integers(0, 5, (24, 24))
        path = dataset.label_path("t0")
        Image.fromarray(numbers.astype(np.uint8)).save(path)
        whole = path.read_bytes()
        refused = 0
        for at in RNG.choice(8 * len(whole), 400, replace=False):
            spoilt = bytearray(whole)
            spoilt[at // 8] ^= 1 << at % 8
            path.write_bytes(spoilt)
            try:
                assert np.array_equal(dataset.label("t0"), numbers)
            except InputError:
                refused += 1
        assert refused > 370  # the rest are bits of the last chunk, which has no content


class TestPhotographs:
    @pytest.mark.parametrize(
        ("mode", "kind"),
        [
            ("RGB", "PNG"),
            ("RGBA", "PNG"),
            ("L", "PNG"),
            ("LA", "PNG"),
            ("P", "PNG"),
            ("1", "PNG"),
            ("L", "JPEG"),
            ("CMYK", "JPEG"),
        ],
    )
    def test_modes_whose_colours_are_known_are_read(self, dataset, mode, kind):
        made = Image.fromarray(COLOURS).convert(mode)
        content = encoded(made, kind)
        dataset.photograph_path("t0").write_bytes(content)
        with Image.open(io.BytesIO(content)) as image:
            expected = np.asarray(image.convert("RGB"))
        assert np.array_equal(dataset.photograph("t0"), expected)
        assert dataset.check_photograph("t0") == (content, (7, 9))

    @pytest.mark.parametrize("depth", [1, 2, 4])
    def test_grey_of_fewer_bits_is_as_bright_as_it_says(self, dataset, depth):
        samples = RNG.integers(0, 2**depth, (7, 9))
        dataset.photograph_path("t0").write_bytes(png(samples, depth))
        assert np.array_equal(dataset.photograph("t0")[..., 1], samples * 255 // (2**depth - 1))

    @pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
    def test_sixteen_bits_are_refused(self, dataset, colour, channels):
        samples = RNG.integers(0, 2**16, (7, 9, channels))
        dataset.photograph_path("t0").write_bytes(png(samples, 16, colour))
        for call in (dataset.photograph, dataset.check_photograph):
            assert "16 bits a sample, and how bright" in refusal(call, "t0")

    @pytest.mark.parametrize("mode", ["I;16", "I", "F", "LAB"])
    def test_numbers_that_are_no_colours_are_refused_in_predict(self, dataset, mode):
        content = encoded(Image.new(mode, (9, 7)), "TIFF")
        path = dataset.photograph_path("t0")
        line = refusal(images.photograph, content, path, ("JPEG", "PNG", "TIFF"), turn=True)
        assert f"has mode {mode} and " in line
        assert "convert it to 8 bits, grey or RGB." in line

    @pytest.mark.parametrize("turned", range(2, 9))
    def test_one_that_viewers_turn_is_refused_beside_labels(self, dataset, turned):
        exif = Image.Exif()
        exif[images.ORIENTATION] = turned
        for kind in ("JPEG", "PNG"):
            content = encoded(Image.fromarray(COLOURS), kind, exif=exif)
            dataset.photograph_path("t0").write_bytes(content)
            for call in (dataset.photograph, dataset.check_photograph):
                line = refusal(call, "t0")
                assert f"t0.jpg has the EXIF orientation {turned}: viewers turn it" in line
                assert "`exiftool -Orientation= FILE`" in line

    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
    def test_several_pictures_are_refused(self, dataset, kind):
        first, *others = (Image.fromarray(COLOURS // k) for k in (1, 2, 3))
        content = encoded(first, kind, save_all=True, append_images=others)
        path = dataset.photograph_path("t0")
        for call in (images.photograph, images.check_photograph):
            line = refusal(call, content, path, images.MORE_FORMATS, turn=True)
            assert "t0.jpg holds 3 pictures" in line

    def test_smaller_copies_are_no_pictures_of_their_own(self, dataset):
        small = Image.fromarray(COLOURS[::2, ::2])
        small.encoderinfo = {"tiffinfo": {254: 1}}
        tiff = encoded(Image.fromarray(COLOURS), "TIFF", save_all=True, append_images=[small])
        path = dataset.photograph_path("t0")
        with Image.open(io.BytesIO(tiff)) as image:
            assert image.n_frames == 2
        assert np.array_equal(images.photograph(tiff, path, images.MORE_FORMATS), COLOURS)
        assert images.check_photograph(tiff, path, images.MORE_FORMATS) == (7, 9)
        camera = encoded(Image.fromarray(COLOURS), "MPO", save_all=True, append_images=[small])
        assert images.check_photograph(camera, path) == (7, 9)

    @pytest.mark.parametrize("turned", range(1, 9))
    def test_predict_turns_it_as_viewers_do(self, dataset, turned):
        exif = Image.Exif()
        exif[images.ORIENTATION] = turned
        content = encoded(Image.fromarray(COLOURS), "PNG", exif=exif)
        seen = images.photograph(content, dataset.photograph_path("t0"), turn=True)
        with Image.open(io.BytesIO(content)) as image:
            assert np.array_equal(seen, np.asarray(ImageOps.exif_transpose(image)))
        assert seen.shape == ((7, 9, 3) if turned < 5 else (9, 7, 3))

    @pytest.mark.parametrize(
        "exif", [b"", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"nothing"]
    )
    @pytest.mark.filterwarnings("ignore:.*EXIF.*:UserWarning")
    def test_damaged_or_plain_exif_turns_nothing(self, dataset, exif):
        content = encoded(Image.fromarray(COLOURS), "JPEG", exif=exif)
        dataset.photograph_path("t0").write_bytes(content)
        assert dataset.photograph("t0").shape == (7, 9, 3)

    def test_the_index_refuses_what_a_training_would(self, dataset):
        exif = Image.Exif()
        exif[images.ORIENTATION] = 3
        with Image.open(dataset.photograph_path("t2")) as image:
            image.save(dataset.photograph_path("t2"), exif=exif)
        line = refusal(build_index, dataset, lambda items, _: items)
        assert "t2.jpg has the EXIF orientation 3" in line


class TestFiles:
    @pytest.mark.parametrize("kind", ["EPS", "GIF", "TIFF", "BMP", "WEBP", "PPM"])
    def test_only_documented_formats_are_opened(self, dataset, kind):
        """Pillow starts Ghostscript for an EPS, whatever its name."""
        dataset.photograph_path("t0").write_bytes(encoded(Image.fromarray(COLOURS), kind))
        for call in (dataset.photograph, dataset.check_photograph):
            assert "t0.jpg cannot be read (no image of the formats JPEG, PNG)" in refusal(
                call, "t0"
            )

    def test_a_pipe_is_refused_and_not_waited_for(self, dataset):
        for path, call in (
            (dataset.photograph_path("t0"), dataset.photograph),
            (dataset.label_path("t0"), dataset.label),
        ):
            path.unlink()
            os.mkfifo(path)
            assert f"{path} cannot be read (it is no regular file)" in refusal(call, "t0")
        assert "no regular file" in refusal(
            images.size, dataset.photograph_path("t0"), "photograph"
        )

    def test_the_limit_of_pixels_is_named_and_can_be_raised(self, dataset, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        Image.new("RGB", (30, 20)).save(dataset.photograph_path("t0"))
        for call in (dataset.photograph, dataset.image_size):
            line = refusal(call, "t0")
            assert "has more than 200 pixels: cut it" in line
            assert "CSSEGCORE_MAX_PIXELS" in line
        monkeypatch.setenv("CSSEGCORE_MAX_PIXELS", "599")
        assert "has more than 599 pixels" in refusal(dataset.photograph, "t0")
        monkeypatch.setenv("CSSEGCORE_MAX_PIXELS", "1200")
        assert dataset.image_size("t0") == (20, 30)
        assert dataset.photograph("t0").shape == (20, 30, 3)
        monkeypatch.setenv("CSSEGCORE_MAX_PIXELS", "many")
        assert "is 'many': give a number of pixels" in refusal(dataset.photograph, "t0")

    def test_a_changed_bit_of_either_file_is_known_by_the_index_s_digest(self, dataset):
        digest = build_index(dataset, lambda items, _: items)[0].digest
        dataset.check_content("t0", digest)
        for path in (dataset.photograph_path("t0"), dataset.label_path("t0")):
            whole = path.read_bytes()
            for at in RNG.choice(len(whole), 20, replace=False):
                path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
                assert "is not what `index` read" in refusal(dataset.check_content, "t0", digest)
            path.write_bytes(whole)
        dataset.check_content("t0", digest)


def test_a_training_refuses_a_photograph_that_is_another_than_the_index_read(project):
    assert project.run(*scenes.BEFORE_TRAINING).status == 0
    path = project.root / "JPEGImages" / "t0.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30] + bytes([whole[-30] ^ 1]) + whole[-29:])
    line = project.run("train@step0").refusal()
    assert "t0.jpg or label image" in line
    assert "run `dvc repro`" in line
    path.write_bytes(whole)
    assert project.run("train@step0").status == 0


def tag_of_turn():
    tag = Image.Exif()
    tag[images.ORIENTATION] = 6
    tag[0x010F] = "maker"
    return tag


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("TIFF", {}),
        ("TIFF", {"save_all": True, "append_images": [Image.fromarray(COLOURS)]}),
        ("WEBP", {"exif": tag_of_turn()}),
        ("WEBP", {"exif": tag_of_turn(), "lossless": True}),
        ("MPO", {"save_all": True, "append_images": [Image.fromarray(COLOURS)]}),
    ],
)
def test_changed_bytes_make_another_photograph_or_one_line(tmp_path, kind, options):
    whole = encoded(Image.fromarray(COLOURS), kind, **options)
    rng = np.random.default_rng(0)
    for _ in range(250):
        content = bytearray(whole)
        for at in rng.integers(0, len(whole), rng.integers(1, 4)):
            content[at] = rng.integers(256)
        for decode in (images.photograph, images.check_photograph):
            with contextlib.suppress(InputError):
                decode(bytes(content), tmp_path / "x", images.MORE_FORMATS, turn=True)


@pytest.mark.filterwarnings("ignore")
def test_the_next_page_of_a_tiff_that_is_none_is_told(tmp_path):
    pages = {"save_all": True, "append_images": [Image.fromarray(COLOURS)]}
    content = bytearray(encoded(Image.fromarray(COLOURS), "TIFF", **pages))
    first = int.from_bytes(content[4:8], "little")
    entries = int.from_bytes(content[first : first + 2], "little")
    content[first + 2 + 12 * entries] ^= 64  # the lowest byte of the second page's place
    line = refusal(
        images.photograph, bytes(content), tmp_path / "x.tif", images.MORE_FORMATS, turn=True
    )
    assert "x.tif cannot be read (Missing dimensions): replace the file." in line


def test_damaged_exif_of_a_webp_is_told(tmp_path):
    content = bytearray(encoded(Image.fromarray(COLOURS), "WEBP", exif=tag_of_turn()))
    content[content.index(b"EXIF") + 8 + 11] = 0  # the maker's tag is 0x0100, the width, and text
    line = refusal(
        images.photograph, bytes(content), tmp_path / "x.webp", images.MORE_FORMATS, turn=True
    )
    assert "x.webp cannot be read (required argument is not an integer): replace the" in line
