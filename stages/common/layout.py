"""The files of a project of one's own."""

from pathlib import Path

from .home import shipped
from .scenarios import quoted

CODE = "    deps:\n      - cssegcore\n      - stages\n"
LIBRARY = """\
  library:
    desc: Which cssegcore is installed; what follows runs again where its program changed
    cmd: cssegcore library work/library.json
    always_changed: true
    outs:
      - work/library.json

"""
PROJECT = """\
# What this project chooses. All else is cssegcore's default, which params.yaml spells out.
# `dvc exp run -S …` and `cssegcore compose params.yaml` compose this folder into params.yaml;
# `dvc repro` runs params.yaml as it is.
defaults:
  - config                    # cssegcore's own; a file of the same name in this folder goes before
  - override scenario: {scenario}
  - override method: mib
  - _self_

seed: 1
"""
DATASET = """\
# Photographs in images/, label images in labels/, names of the classes in classes.txt.
name: {name}
root: {root}
layout: {{part: folder}}
classes: null                 # from classes.txt, background first
"""
PLUGIN = '''\
"""Hydra finds cssegcore's configuration behind this folder's, and the steps of each scenario."""

from pathlib import Path

from cssegcore_stages.common.search_path import ShippedConf as ShippedConf
from cssegcore_stages.common.search_path import register_steps

register_steps(Path(__file__).resolve().parents[1])
'''
IGNORED = """\
/work
/.cssegcore/
/mlflow.db*
/mlartifacts/
/multirun/
/predictions/
/pretrained/
__pycache__/
"""
COMPILED = "__pycache__\n*.pyc\n"
"""What DVC leaves out of the folders that stages depend on."""
HYDRA = """\
[hydra]
    enabled = True
    plugins_path = conf
    config_name = project
"""


def own_pipeline() -> str:
    """Returns dvc.yaml as it is outside of a clone: the installed command runs every stage."""
    text = shipped("dvc.yaml").read_text(encoding="utf-8")
    text = text.replace("python -m stages.", "cssegcore ")
    text = text.replace(CODE, "    deps:\n      - work/library.json\n")
    return text.replace("stages:\n", f"stages:\n{LIBRARY}", 1)


def own_files(name: str, root: str, scenario: str) -> dict[Path, str]:
    """Returns the text of every file but params.yaml and the scenario's.

    Args:
        name: Of the dataset.
        root: Its folder.
        scenario: Name of the scenario that is run.
    """
    return {
        Path("dvc.yaml"): own_pipeline(),
        Path("conf/project.yaml"): PROJECT.format(scenario=quoted(scenario)),
        Path("conf/dataset", f"{name}.yaml"): DATASET.format(name=quoted(name), root=quoted(root)),
        Path("conf/hydra_plugins/cssegcore.py"): PLUGIN,
        Path("lists/.gitkeep"): "",  # DVC wants the folder, which is empty until images arrive
    }
