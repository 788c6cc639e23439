"""weft: fine-tune one language model on many tasks at once, exactly balanced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weft.version import __version__

if TYPE_CHECKING:
    from weft.api import (
        Checked,
        check,
        compare,
        data_report,
        evaluate,
        forecast,
        generate,
        merge,
        prepare,
        run_report,
        settings,
        soup,
        stats,
        suggest,
        train,
        transfer,
    )
    from weft.config.settings import Settings

__all__ = [
    "Checked",
    "Settings",
    "__version__",
    "check",
    "compare",
    "data_report",
    "evaluate",
    "forecast",
    "generate",
    "merge",
    "prepare",
    "run_report",
    "settings",
    "soup",
    "stats",
    "suggest",
    "train",
    "transfer",
]


def __getattr__(name: str) -> Any:
    """The verbs are imported when they are first used, so that `import weft` costs nothing."""
    if name in __all__:
        from weft import api

        return getattr(api, name)
    raise AttributeError(f"module 'weft' has no attribute {name!r}")
