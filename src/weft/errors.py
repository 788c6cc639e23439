"""Every error that weft raises on purpose.

Each class refines the standard-library exception it stands for, so `except ValueError` still works, and carries nothing but its
message, so it survives pickling between processes. A message says what, where, which value, and what to do.
"""

from __future__ import annotations


class WeftError(Exception):
    """The root of all of weft's own errors; the command line prints its message without a traceback and exits with `exit_code`."""

    exit_code: int = 1


class ConfigError(WeftError, ValueError):
    """A settings file, an override or a combination of settings that can't be honoured. Lists every fault found."""

    exit_code = 2


class DataError(WeftError, ValueError):
    """Rows, files or samples that can't be used."""

    exit_code = 3


class TemplateError(WeftError, ValueError):
    """A chat template that can't be rendered or whose mask can't be verified."""

    exit_code = 3


class ModelError(WeftError, ValueError):
    """A model folder, adapter or architecture that can't be loaded or trained exactly."""

    exit_code = 4


class CheckpointError(WeftError, OSError):
    """A run folder or checkpoint that is broken, foreign, or does not fit the settings."""

    exit_code = 5


class TrainingError(WeftError, RuntimeError):
    """Training can't go on: non-finite numbers, nothing that learns, a lost process."""

    exit_code = 6


class MissingExtraError(WeftError, ImportError):
    """An optional dependency is not installed; the message names the extra."""

    exit_code = 7
