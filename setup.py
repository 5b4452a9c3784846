"""The packages; all else is in setup.cfg. The wheel has the scripts and the training settings inside the package."""

from setuptools import find_packages, setup

#: Package -> its folder. `mtt_brian.repository.shipped` finds the files in both places.
ELSEWHERE = {"mtt_brian.configs": "training/configs", "mtt_brian.studies": "studies", "mtt_brian.training": "training"}

setup(packages=[*find_packages(include=["mtt_brian", "mtt_brian.*"]), *ELSEWHERE], package_dir=ELSEWHERE)
