"""Names of the files of a run folder: a training writes them, and other commands read them without torch."""

#: The settings, the first file of a run, and the versions of the packages.
CONFIG, VERSIONS = "config.json", "versions.json"
#: The network, the last file: a run that has it is finished.
MODEL = "model.nir"
