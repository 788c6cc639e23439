"""Checkpoints: all of the state comes back, and whatever is broken is found, set aside and never used."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from weft import files
from weft.config.settings import OptimizerSettings
from weft.errors import CheckpointError
from weft.training import checkpoint
from weft.training.checkpoint import Progress, load, load_weights, newest, save, trainable
from weft.training.life import Lives
from weft.training.optim import build_optimizer

COMPONENTS = ("weights.safetensors", "optimizer.safetensors", "state.json", files.MANIFEST)


class Tied(nn.Module):
    """An embedding that is also the head, a frozen part, a vector, a scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.inner = nn.Linear(4, 4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.head(self.frozen(self.inner(self.embedding(ids))) * self.gain)
        return hidden


def made(seed: int = 0) -> tuple[Tied, torch.optim.AdamW]:
    torch.manual_seed(seed)
    module = Tied()
    return module, build_optimizer(module, OptimizerSettings(lr=0.01, weight_decay=0.1))


def train(module: Tied, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        torch.manual_seed(100 + step)
        optimizer.zero_grad()
        module(torch.randint(0, 7, (5,))).pow(2).sum().backward()
        optimizer.step()


def state_of(module: Tied, optimizer: torch.optim.Optimizer) -> list[bytes]:
    tensors = [p.detach() for _, p in sorted(module.named_parameters())]
    tensors += [optimizer.state[p][key] for p in trainable(module).values() for key in sorted(optimizer.state[p])]
    return [tensor.numpy().tobytes() for tensor in tensors]


def saved(folder: Path, *steps: int, keep: int = 99, best: int | None = None) -> None:
    module, optimizer = made()
    train(module, optimizer, 1)
    for step in steps:
        save(folder, module, optimizer, Progress(step=step), keep, {best})


def steps_in(folder: Path) -> list[int]:
    return sorted(int(place.name.removeprefix("step-")) for place in folder.glob("step-????????"))


# round trip


def test_a_run_goes_on_from_a_checkpoint_as_if_nothing_had_happened(tmp_path: Path) -> None:
    module, optimizer = made()
    train(module, optimizer, 3)
    progress = Progress(
        3,
        2,
        1,
        4,
        1,
        False,
        Lives({"a": {"best_loss": 0.5, "best_step": 2, "stalled": 1}}, {"loss": {"value": 0.5, "step": 2}}),
        {"weights": [1.0, 2.0]},
    )
    place = save(tmp_path, module, optimizer, progress, keep=1)
    train(module, optimizer, 2)
    again, its_optimizer = made(seed=9)
    again.frozen.load_state_dict(module.frozen.state_dict())
    assert load(place, again, its_optimizer) == progress
    train(again, its_optimizer, 2)
    assert state_of(again, its_optimizer) == state_of(module, optimizer)


def test_a_checkpoint_before_the_first_step_comes_back(tmp_path: Path) -> None:
    module, optimizer = made()
    place = save(tmp_path, module, optimizer, Progress(), keep=1)
    again, its_optimizer = made(seed=9)
    assert load(place, again, its_optimizer) == Progress()
    assert not its_optimizer.state
    assert torch.equal(again.inner.weight, module.inner.weight)


def test_tied_weights_stay_tied_and_frozen_ones_are_not_stored(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    module, optimizer = made(seed=9)
    frozen = module.frozen.weight.clone()
    place = newest(tmp_path)
    assert place is not None
    load(place, module, optimizer)
    assert module.head.weight is module.embedding.weight
    assert torch.equal(module.frozen.weight, frozen)
    from safetensors.torch import load_file

    assert set(load_file(place / "weights.safetensors")) == set(trainable(module))
    assert not any("frozen" in name for name in trainable(module))


def test_what_is_saved_is_the_same_bytes_for_the_same_state(tmp_path: Path) -> None:
    saved(tmp_path / "a", 1)
    saved(tmp_path / "b", 1)
    for name in COMPONENTS:
        assert (tmp_path / "a/step-00000001" / name).read_bytes() == (tmp_path / "b/step-00000001" / name).read_bytes()


def test_a_checkpoint_holds_no_pickle(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    assert {p.name for p in (tmp_path / "step-00000001").iterdir()} == set(COMPONENTS)


def test_saving_a_step_again_keeps_the_one_that_is_there(tmp_path: Path) -> None:
    saved(tmp_path, 5)
    before = (tmp_path / "step-00000005").stat().st_ino
    saved(tmp_path, 5)
    assert (tmp_path / "step-00000005").stat().st_ino == before
    assert steps_in(tmp_path) == [5]


def test_saving_over_a_broken_one_sets_that_aside(tmp_path: Path) -> None:
    saved(tmp_path, 5)
    (tmp_path / "step-00000005" / "state.json").write_text("{}")
    saved(tmp_path, 5)
    assert newest(tmp_path) == tmp_path / "step-00000005"
    assert len(list(tmp_path.glob("broken-step-00000005-*"))) == 1


def test_a_disk_that_does_not_keep_what_is_written_is_told_and_nothing_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 1)
    publish = files.publish

    def lose(folder: Path, place: Path, about: object) -> None:
        publish(folder, place, about)  # type: ignore[arg-type]
        (place / "weights.safetensors").write_bytes(b"")

    monkeypatch.setattr(files, "publish", lose)
    module, optimizer = made()
    with pytest.raises(CheckpointError, match="read back"):
        save(tmp_path, module, optimizer, Progress(step=2), keep=1)
    assert newest(tmp_path) == tmp_path / "step-00000001"


def test_a_disk_that_is_full_leaves_the_old_one_and_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_json", full)
    module, optimizer = made()
    with pytest.raises(OSError):
        save(tmp_path, module, optimizer, Progress(step=2), keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
    assert newest(tmp_path) == tmp_path / "step-00000001"


# broken ones


def _flip(file: Path, at: float) -> None:
    data = bytearray(file.read_bytes())
    data[int(at * (len(data) - 1))] ^= 1
    file.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "empty": lambda file: os.truncate(file, 0),
    "one byte": lambda file: os.truncate(file, 1),
    "half": lambda file: os.truncate(file, file.stat().st_size // 2),
    "one byte less": lambda file: os.truncate(file, file.stat().st_size - 1),
    "one byte more": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    "a bit in the front": lambda file: _flip(file, 0.0),
    "a bit in the middle": lambda file: _flip(file, 0.5),
    "the last bit": lambda file: _flip(file, 1.0),
    "second half zero": lambda file: file.write_bytes(
        file.read_bytes()[: file.stat().st_size // 2] + bytes(-(-file.stat().st_size // 2))
    ),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_component_is_found_and_an_older_checkpoint_used(tmp_path: Path, component: str, damage: str) -> None:
    """FAULTS.md 3 to 6."""
    saved(tmp_path, 1, 2, 3)
    broken = tmp_path / "step-00000003"
    before = {p.name for p in broken.iterdir()}
    whole = (broken / component).read_bytes()
    DAMAGE[damage](broken / component)
    if component == files.MANIFEST and (broken / component).is_file():
        try:  # a flipped bit may leave the manifest's own meaning as it was: white space, or a part nobody reads
            same = json.loads((broken / component).read_bytes())["files"] == json.loads(whole)["files"]
        except (ValueError, KeyError):
            same = False
        if same:
            pytest.skip("the damage changed nothing that the manifest says of the files")
    assert newest(tmp_path) == tmp_path / "step-00000002"
    if damage in ("removed", "a folder") and component == files.MANIFEST:
        return  # then it is no checkpoint at all, and left where it is
    aside = list(tmp_path.glob("broken-step-00000003-*"))
    assert len(aside) == 1, "set aside, never deleted"
    assert {p.name for p in aside[0].iterdir()} == before - ({component} if damage == "removed" else set())


def test_the_last_good_one_survives_two_broken_newer_ones(tmp_path: Path) -> None:
    """FAULTS.md 8."""
    saved(tmp_path, 1, 2, 3, keep=3)
    for step in (2, 3):
        os.truncate(tmp_path / f"step-0000000{step}" / "weights.safetensors", 0)
    assert newest(tmp_path) == tmp_path / "step-00000001"
    saved(tmp_path, 4, keep=2)
    assert steps_in(tmp_path) == [1, 4]


def test_without_a_whole_one_there_is_none(tmp_path: Path) -> None:
    assert newest(tmp_path) is None
    assert newest(tmp_path / "nowhere") is None
    saved(tmp_path, 1)
    os.truncate(tmp_path / "step-00000001" / "optimizer.safetensors", 5)
    assert newest(tmp_path) is None


def test_junk_is_neither_used_nor_touched(tmp_path: Path) -> None:
    """FAULTS.md 7."""
    saved(tmp_path, 7)
    (tmp_path / "step-99999999").mkdir()
    (tmp_path / "step-99999998").write_text("a file")
    (tmp_path / "step-99999997").symlink_to("nowhere")
    (tmp_path / "step-abcdefgh").mkdir()
    (tmp_path / "step-9").mkdir()
    (tmp_path / "step-٩٩٩٩٩٩٩٩").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    before = {p.name for p in tmp_path.iterdir()}
    assert newest(tmp_path) == tmp_path / "step-00000007"
    assert {p.name for p in tmp_path.iterdir()} == before
    saved(tmp_path, 8, keep=1)
    assert {p.name for p in tmp_path.iterdir()} == before - {"step-00000007"} | {"step-00000008"}


def test_order_is_by_step_and_not_by_time(tmp_path: Path) -> None:
    """FAULTS.md 9."""
    saved(tmp_path, 3, 20, 100)
    for age, step in enumerate((100, 20, 3)):
        os.utime(tmp_path / f"step-{step:08d}", (1e9 + age, 1e9 + age))
    assert newest(tmp_path) == tmp_path / "step-00000100"


def test_a_manifest_can_not_point_outside(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    manifest = tmp_path / "step-00000001" / files.MANIFEST
    record = json.loads(manifest.read_text())
    record["files"] = {"../../x": {"bytes": 0, "sha256": "0"}}
    manifest.write_text(json.dumps(record))
    assert newest(tmp_path) is None


@pytest.mark.parametrize("listed", [{}, {"state.json": None}, {"state.json": {}}, [], "x"])
def test_a_manifest_that_lists_nothing_proves_nothing(tmp_path: Path, listed: object) -> None:
    saved(tmp_path, 1, 2)
    manifest = tmp_path / "step-00000002" / files.MANIFEST
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "files": listed}))
    assert newest(tmp_path) == tmp_path / "step-00000001"


# rotation


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [
        (1, None, [6]),
        (3, None, [4, 5, 6]),
        (3, 5, [4, 5, 6]),
        (2, 2, [2, 5, 6]),
        (1, 1, [1, 6]),
        (99, None, [1, 2, 3, 4, 5, 6]),
    ],
)
def test_rotation_keeps_the_newest_and_the_best(tmp_path: Path, keep: int, best: int | None, left: list[int]) -> None:
    saved(tmp_path, *range(1, 7), keep=keep, best=best)
    assert steps_in(tmp_path) == left
    assert all(not files.faults(place) for place in tmp_path.iterdir())


def test_a_kill_in_the_middle_of_a_deletion_leaves_no_half_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 1, 2)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.shutil, "rmtree", die)
    with pytest.raises(KeyboardInterrupt):
        saved(tmp_path, 3, keep=1)
    monkeypatch.undo()
    assert steps_in(tmp_path)[-1] == 3
    files.remove_leftovers(tmp_path)
    assert not list(tmp_path.glob("*.tmp-*"))
    assert newest(tmp_path) == tmp_path / "step-00000003"


# weights that don't fit


def test_weights_of_another_model_are_refused_by_name(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    place = tmp_path / "step-00000001"
    module, optimizer = made()
    module.inner = nn.Linear(4, 4, bias=False)
    with pytest.raises(CheckpointError, match=r"inner\.bias"):
        load(place, module, optimizer)
    module.inner = nn.Linear(4, 9)
    with pytest.raises(CheckpointError, match=r"don't fit the model: inner\."):
        load_weights(place, module)


def test_an_optimizer_of_another_model_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    saved(tmp_path, 1)
    file = tmp_path / "step-00000001" / "optimizer.safetensors"
    moments = load_file(file)
    for wrong in (
        {**moments, "exp_avg|elsewhere": torch.zeros(1)},
        {**moments, "exp_avg|inner.weight": torch.zeros(2, 2)},
    ):
        save_file(wrong, file)
        module, optimizer = made()
        with pytest.raises(CheckpointError, match=r"elsewhere|inner\.weight"):
            load(tmp_path / "step-00000001", module, optimizer)


def test_moments_that_are_missing_are_missed(tmp_path: Path) -> None:
    """Half of a state must never be taken for a whole one."""
    from safetensors.torch import load_file, save_file

    saved(tmp_path, 1)
    file = tmp_path / "step-00000001" / "optimizer.safetensors"
    moments = load_file(file)
    save_file({name: tensor for name, tensor in moments.items() if name != "exp_avg_sq|inner.weight"}, file)
    module, optimizer = made()
    with pytest.raises(CheckpointError, match=r"inner\.weight"):
        load(tmp_path / "step-00000001", module, optimizer)
