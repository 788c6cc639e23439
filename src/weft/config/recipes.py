"""Settings files that ship with weft: one YAML file each in recipes/, found by its name."""

from __future__ import annotations

import fnmatch
from pathlib import Path

from weft.config.words import did_you_mean
from weft.errors import ConfigError

_FOLDER = Path(__file__).parent / "recipes"


def names(pattern: str | None = None) -> list[str]:
    """The recipes' names in order; with `pattern`, those that hold it or, where it has * ? [, match it."""
    found = sorted(path.stem for path in _FOLDER.glob("*.yaml"))
    if not pattern:
        return found
    wanted = pattern.lower()
    if any(character in wanted for character in "*?["):
        return [name for name in found if fnmatch.fnmatchcase(name, wanted)]
    return [name for name in found if wanted in name]


def text(name: str) -> str:
    """A recipe's YAML; raises ConfigError where there is no such recipe."""
    known = names()
    if name not in known:
        raise ConfigError(f"there is no recipe '{name}'{did_you_mean(name, known)}; the recipes are {', '.join(known)}")
    return (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def summary(name: str) -> str:
    """The first line of a recipe's opening comment: what it is for."""
    return text(name).partition("\n")[0].lstrip("# ")


def copy(name: str, directory: str | Path = ".") -> Path:
    """Copy a recipe into a folder (made where it is missing) and return the file; never overwrites one."""
    content = text(name)
    target = Path(directory) / f"{name}.yaml"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError as error:
        if error.filename == str(target):
            raise ConfigError(f"{target} is there already; move it away, or name another folder") from None
        raise ConfigError(f"{target.parent} is a file, not a folder; name another folder") from None
    except OSError as error:
        raise ConfigError(f"{target} can't be written: {error.strerror or error}") from None
    return target
