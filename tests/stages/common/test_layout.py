"""The files of a project of one's own name exactly the dataset that was meant."""

import shutil
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from cssegcore.core.errors import InputError
from cssegcore.data.dataset import open_dataset
from stages.common.layout import own_files
from stages.compose import composed
from stages.init import main
from tests.helpers.tiny_dataset import HOME, write_lines

pytestmark = pytest.mark.slow


FOLDERS = ["data/my set #2", "data/a: b", "2024_06", "no", "1e3", " x", "[a]", "data/'q'", "*"]
FOLDERS += ["$USER", "{USER}", "\\", '"', "back\\slash"]
NAMES = ["2024", "no", "1e3", "null"]


@pytest.mark.parametrize(
    ("name", "folder"),
    [*(("mine", folder) for folder in FOLDERS), *((name, "photos") for name in NAMES)],
)
@pytest.mark.parametrize("absolute", [True, False])
def test_the_dataset_is_the_one_that_was_meant(tmp_path, monkeypatch, name, folder, absolute):
    monkeypatch.setenv("USER", "someone")
    monkeypatch.chdir(tmp_path)
    root = tmp_path / folder
    root.mkdir(parents=True)
    write_lines(root / "classes.txt", ["background", "the one"])
    place = str(root) if absolute else folder
    shutil.copytree(HOME / "conf", "conf")
    for path, text in own_files(name, place, f"{name}/main").items():
        if path.parts[:2] == ("conf", "dataset"):
            path.write_text(text)
    made = OmegaConf.to_yaml(
        composed((f"dataset='{name}'", "scenario=shapes/4-2"), tmp_path / "conf")
    )
    settings = yaml.safe_load(made)["dataset"]
    assert (settings["name"], settings["root"]) == (name, place)
    assert open_dataset(settings).classes == ("background", "the one")
    assert "someone" not in made


@pytest.mark.parametrize("folder", ["${USER}", "a${oc.env:USER}/b", "a${"])
def test_a_folder_that_hydra_would_look_for_elsewhere_is_refused(tmp_path, monkeypatch, folder):
    monkeypatch.setattr("stages.init.find_spec", bool)
    monkeypatch.chdir(tmp_path)
    Path(folder).mkdir(parents=True)
    with pytest.raises(InputError, match=r"Hydra and DVC put a value where `\$\{` stands"):
        main(Path("project"), Path(folder), "mine")
    assert not Path("project").exists()
