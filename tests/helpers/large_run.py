"""A run as large as ADE20K's 100-5: 150 classes, eleven steps, photographs of 512×384 pixels."""

import json

import numpy as np
from PIL import Image

from cssegcore.core.palette import save_labels

STEPS, BASE, INCREMENT = 11, 100, 5
CLASSES = ["background", *(f"class {number}" for number in range(1, BASE + 10 * INCREMENT + 1))]
LEARNED = [0] * (BASE + 1) + [1 + c // INCREMENT for c in range(10 * INCREMENT)]
EXAMPLES = 6
CURVE = [f"{epoch},0.01,{1 / epoch:.4f},{0.7 / epoch:.4f}" for epoch in range(1, 61)]


def write_large_evaluation(folder):
    rng = np.random.default_rng(3)
    for index in range(STEPS):
        seen = BASE + 1 + INCREMENT * index
        step = folder / f"step{index}"
        (step / "examples").mkdir(parents=True)
        confusion = {
            "step": step.name,
            "index": index,
            "classes": CLASSES,
            "learned": LEARNED,
            "seen": seen,
            "images": 2000,
            "matrix": _matrix(rng, seen).tolist(),
        }
        (step / "confusion.json").write_text(json.dumps(confusion))
        (step / "epochs.csv").write_text("\n".join(["epoch,lr,loss,ce", *CURVE]) + "\n")
        is_last = index == STEPS - 1  # whose photographs and truths are shown
        for number in range(EXAMPLES):
            _write_labels(step / "examples" / f"photo{number}.prediction.png", seen, number, index)
            if is_last:
                _write_photograph(step / "examples" / f"photo{number}.photo.jpg", number)
                _write_labels(step / "examples" / f"photo{number}.truth.png", seen, number, STEPS)
    return folder


def _matrix(rng, seen):
    """Most pixels are right; some are background, and some are of a handful of other classes."""
    matrix = np.zeros((len(CLASSES), seen), int)
    for c, row in enumerate(matrix):
        row[rng.integers(0, seen, 6)] += rng.integers(0, 900, 6)
        row[0] += rng.integers(100, 1000)
        if c < seen:
            row[c] += rng.integers(500, 20000)
    return matrix


def _write_photograph(path, number):
    y, x = np.mgrid[:384, :512]
    noise = np.random.default_rng(number).normal(0, 12, (384, 512, 3))
    waves = np.stack([np.sin(x / 20 + number), np.cos(y / 15), np.sin((x + y) / 30)], axis=-1)
    photo = (127 + 70 * waves + noise).clip(0, 255).astype(np.uint8)
    Image.fromarray(photo).save(path, quality=90)


def _write_labels(path, seen, number, seed):
    """Writes tiles with wavy edges."""
    y, x = np.mgrid[:384, :512]
    grid = np.random.default_rng((number, seed)).integers(0, seen, (12, 16))
    rows = (y + 6 * np.sin(x / 9 + seed)).astype(int).clip(0, 383) // 32
    columns = (x + 8 * np.sin(y / 7)).astype(int).clip(0, 511) // 32
    save_labels(path, grid[rows, columns])
