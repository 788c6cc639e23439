"""The questions of an evaluation: conversations up to their last answer, and that answer as it should be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from weft.config.settings import Settings, TaskSettings
from weft.data.mixture import stable_seed
from weft.data.read import ReadRow, read_task
from weft.data.sources import SUFFIXES
from weft.data.store import Store
from weft.errors import ConfigError, DataError
from weft.types import TEXT_ROLE, Conversation, Message


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, under the row's public name, and the expected answer."""

    row: str
    messages: tuple[Message, ...]
    expected: str


def validation_questions(settings: Settings, store: Store, max_prompts: int) -> list[Question]:
    """At most so many questions from a task's validation rows, always the same ones. Reads the task's sources once more."""
    data = settings.data
    samples = store.split("validation", data.validation, data.test)
    wanted = {store.name(int(sample)) for sample in samples}
    if not wanted or not max_prompts:
        return []
    return _chosen(_questions(store.task, settings.tasks[store.task], wanted), max_prompts)


def held_out_questions(
    folder: Path, tasks: Mapping[str, TaskSettings] | Sequence[str], max_prompts: int
) -> dict[str, list[Question]]:
    """Questions from a folder with one file a task, `<task>.jsonl` (or another suffix that is read).

    Where the tasks' settings are given, a file's columns mean what they mean in its task. Otherwise its format is found.

    Raises ConfigError where it has no file of any task, or one of no task; DataError for a row that can't be read.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"--held-out {folder}: is no folder; it should hold a file for each task, such as {next(iter(tasks))}.jsonl"
        )
    found = {file: _task_of(file) for file in sorted(folder.iterdir()) if file.is_file() and _task_of(file)}
    strangers = [file.name for file, task in found.items() if task not in tasks]
    if strangers or not found:
        what = (
            f"no task is called like {', '.join(strangers)}"
            if strangers
            else f"holds no {', '.join(f'*{s}' for s in SUFFIXES)}"
        )
        raise ConfigError(f"--held-out {folder}: {what}; the tasks are {', '.join(tasks)}")
    return {
        task: _chosen(_questions(task, _settings_of(tasks, task, file), None), max_prompts)
        for file, task in found.items()
        if task is not None
    }


def _settings_of(tasks: Mapping[str, TaskSettings] | Sequence[str], task: str, file: Path) -> TaskSettings:
    if not isinstance(tasks, Mapping):
        return TaskSettings(path=str(file))
    return tasks[task].model_copy(update={"path": str(file)})


def _task_of(file: Path) -> str | None:
    return next(
        (
            file.name.removesuffix(suffix)
            for suffix in sorted(SUFFIXES, key=len, reverse=True)
            if file.name.endswith(suffix)
        ),
        None,
    )


def _questions(name: str, task: TaskSettings, wanted: set[str] | None) -> Iterator[Question]:
    """The rows that are `wanted`; all, and then all must be readable, where that is None."""
    for item in read_task(name, task):
        if not isinstance(item, ReadRow):
            if wanted is None:
                raise DataError(f"{task.path}:{item.row.line}: {item.reason}: {item.detail}")
            continue
        row, messages = item.id.of(name), item.conversation.messages
        if (wanted is None or row in wanted) and _can_be_asked(item.conversation):
            yield Question(row, messages[:-1], messages[-1].content)


def _can_be_asked(conversation: Conversation) -> bool:
    """Whether there is an answer in words: not in a document, in ready tokens, after a tool's call, or one that is not liked."""
    messages = conversation.messages
    if not messages or messages[0].role == TEXT_ROLE or conversation.desirable is False:
        return False
    return not messages[-1].tool_calls


def _chosen(questions: Iterable[Question], most: int) -> list[Question]:
    """At most so many, by a hash of the row's name, so that more rows or tasks don't change which; in the order of the rows."""
    found = list(questions)
    kept = {
        question.row for question in sorted(found, key=lambda question: stable_seed("question", question.row))[:most]
    }
    return [question for question in found if question.row in kept]
