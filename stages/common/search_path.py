"""What a project's own Hydra plugin needs: cssegcore's configuration behind the project's.

`cssegcore init` writes that plugin, conf/hydra_plugins/cssegcore.py.
"""

import importlib.util
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from .home import shipped


class ShippedConf(SearchPathPlugin):
    """Has Hydra look into cssegcore's conf for what the project's lacks."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("cssegcore", f"file://{shipped('conf')}")


def register_steps(conf: Path) -> None:
    """Gives Hydra the chain of steps of every scenario, cssegcore's and those in `conf`."""
    file = shipped("conf") / "hydra_plugins" / "steps.py"
    spec = importlib.util.spec_from_file_location("cssegcore_steps", file)
    assert spec
    assert spec.loader
    steps = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(steps)  # which registers its own
    steps.register(conf / "scenario")
