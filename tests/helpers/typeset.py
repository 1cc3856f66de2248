"""Has TeX set a table, where it is at hand."""

import shutil
import subprocess
from pathlib import Path

TEX = next(filter(None, map(shutil.which, ("pdflatex", "tectonic"))), None)
DOCUMENT = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}%s\\end{document}\n"


def typeset(folder: Path, table: str) -> None:
    """Makes `paper.pdf` of a table, as a paper that uses booktabs; nothing without TeX."""
    if TEX is None:
        return
    (folder / "paper.tex").write_text(DOCUMENT % table, encoding="utf-8")
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in TEX else []
    done = subprocess.run(
        [TEX, *options, "paper.tex"], cwd=folder, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert (folder / "paper.pdf").read_bytes().startswith(b"%PDF")
