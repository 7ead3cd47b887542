"""What pyproject.toml cannot say: conf/ stays at the root of the repository, and is ablations.conf in the package."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages(include=["ablations*", "hydra_plugins.*"]), "ablations.conf"],
    package_dir={"ablations.conf": "conf"},
    package_data={"ablations": ["py.typed", "nn/*.txt", "tracking/*.sql"], "ablations.conf": ["**/*.yaml"]},
)
