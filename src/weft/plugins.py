"""Finding a plug-in: one file in its folder, found by its name, or a user's own `package.module:attribute`.

A plug-in file defines one attribute that its folder asks for (`FORMAT`, `build`, …). Nothing is registered by hand.
"""

from __future__ import annotations

import importlib
import pkgutil
from difflib import get_close_matches
from typing import Any

from weft.errors import ConfigError


def names(package: str) -> list[str]:
    """The names of all plug-ins in a package's folder, sorted; files that start with `_` are helpers."""
    paths = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(paths) if not module.name.startswith("_"))


def find(package: str, name: str, attribute: str, setting: str) -> Any:
    """The `attribute` of plug-in `name` in `package`, or the object at a dotted path `module:attribute`.

    Raises ConfigError naming the setting and the known plug-ins.
    """
    if ":" in name:
        module_name, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"{setting}: can't load {name!r}: {error}. Write it as 'package.module:attribute'."
            ) from error
    known = names(package)
    if name not in known:
        close = get_close_matches(name, known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(
            f"{setting}: unknown {name!r}.{hint} Known: {', '.join(known)}; or your own 'module:attribute'."
        )
    return getattr(importlib.import_module(f"{package}.{name}"), attribute)
