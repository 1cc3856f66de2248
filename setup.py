"""What a wheel carries; all that can be said in pyproject.toml stands there.

The pipeline's package is called `stages` in a clone and `cssegcore_stages` once installed, where a
name as common as the former would be in the way. What lies beside it in a clone lies inside it
then.
"""

from setuptools import find_packages, setup

PIPELINE = "cssegcore_stages"
CARRIED = f"{PIPELINE}.project"
PROJECT = ("dvc.yaml", "conf/**/*.yaml", "conf/hydra_plugins/*.py", "lists/**/*.txt")

setup(
    script_name="setup.py",  # or it would be carried, too
    packages=[
        *find_packages(include=["cssegcore*"]),
        *(PIPELINE + f".{name}" * bool(name) for name in ["", *find_packages("stages")]),
        CARRIED,
    ],
    package_dir={PIPELINE: "stages", CARRIED: "."},
    package_data={
        "cssegcore": ["py.typed"],
        "": ["*.json"],
        "cssegcore.report": ["templates/*"],
        CARRIED: [*PROJECT],
    },
    include_package_data=False,
)
