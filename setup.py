"""The one thing that pyproject.toml cannot say: conf/ is installed as stagetransfer.conf."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[
        *find_namespace_packages("src", include=["stagetransfer*", "hydra_plugins*"]),
        "stagetransfer.conf",
    ],
    package_dir={"": "src", "stagetransfer.conf": "conf"},
)
