"""Everything a run's further course depends on, saved between two blocks of steps and restored.

A checkpoint holds, for each task, the networks, the optimiser, the counters and the random numbers
(`algorithms.state`), the replay (its frames in chunks that checkpoints share), the journal of the
environments, the state of the callbacks and the lengths of the metrics files. Nothing
else: a run taken up again is made from its configuration, then given this.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from sndqn.algorithms.state import get_state, prolong, refill, set_state
from sndqn.errors import RunFolderError, TrainingError
from sndqn.replay import FrameRing
from sndqn.replay.snapshot import finished_chunks, restore, snapshot
from sndqn.runs.checkpoint import Checkpoint, CheckpointStore
from sndqn.training.signals import StopSignals
from sndqn.training.task_state import TaskState

_STATE = "state.safetensors"
_MAX_FAILURES = 3
_CHUNK_FRAMES = 2000


class Checkpoints:
    """Saves the tasks of a run as one, and restores what was saved.

    Args:
        store: Where to.
        tasks: The tasks.
    """

    def __init__(self, store: CheckpointStore, tasks: Sequence[TaskState]) -> None:
        self.store = store
        self.tasks = tasks
        # References to the chunks of each replay, by number.
        self._chunks: list[dict[int, Any]] = [{} for _ in tasks]

    def save_chunks(self) -> None:
        """Saves the frames that will not change any more, ahead of the next checkpoint.

        Called between any two blocks, so that no checkpoint has much to do.

        Raises:
            RunFolderError: They cannot be written.
        """
        for index, (task, known) in enumerate(zip(self.tasks, self._chunks, strict=True)):
            replay = _replay(task)
            newest = max(known, default=-1)
            for number, data in finished_chunks(replay, newest, _chunk_slots(replay)):
                known[number] = self.store.put_chunk(f"frames-{index}-{number:06d}", data)

    def save(self) -> None:
        """Saves everything, at the cost of what is new.

        Raises:
            TrainingError: A weight is not finite any more; nothing is saved.
            RunFolderError: It cannot be written; earlier checkpoints are as they were.
        """
        states = [_state(task) for task in self.tasks]
        tensors = {
            f"{index}/{name}": tensor
            for index, (found, _) in enumerate(states)
            for name, tensor in found.items()
        }
        self.save_chunks()
        for index, (_, data) in enumerate(states):
            known, needed = self._chunks[index], data["replay"]["chunks"]
            self._chunks[index] = {number: known[number] for number in needed}
        self.store.save(
            self.tasks[0].model.num_timesteps,
            {_STATE: save_tensors(tensors)},
            [ref for refs in self._chunks for ref in refs.values()],
            {"parts": [data for _, data in states]},
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restores everything that was saved, into tasks made as when the run began.

        Raises:
            ConfigError: It is of a run of another configuration.
            RunFolderError: Its environments do not come back as they were.
        """
        refs = {ref["name"]: ref for ref in checkpoint.chunks}
        tensors = load_tensors(checkpoint.files[_STATE])
        for index, task in enumerate(self.tasks):
            data = checkpoint.info["parts"][index]
            numbers = data["replay"]["chunks"] if data["replay"] else []
            known = {number: refs[f"frames-{index}-{number:06d}"] for number in numbers}
            self._chunks[index] = known

            def chunk(number: int, known: Mapping[int, Any] = known) -> bytes:
                return self.store.get_chunk(known[number])

            _restore(task, _under(tensors, f"{index}/"), data, chunk)


def can_save(task: TaskState) -> bool:
    """Returns whether a task can be saved and resumed: Dict observations cannot."""
    return isinstance(task.model.replay_buffer, FrameRing)


def lengths_of(checkpoint: Checkpoint, index: int) -> dict[str, int]:
    """Returns the bytes that each metrics file of a task had at a checkpoint, by its name."""
    lengths: dict[str, int] = checkpoint.info["parts"][index]["lengths"]
    return lengths


def drop_replay(store: CheckpointStore) -> None:
    """Leaves, of a run's checkpoints, the newest without its replay: what `--more` goes on from.

    Raises:
        RunFolderError: It cannot be written; then all are as they were.
    """
    newest = store.load_newest(with_chunks=False)
    if newest is None:
        return
    if has_replay(newest):
        _save_without_replay(newest, CheckpointStore(store.run_path, store.storage, keep=1))
    store.storage.remove_tree(store.chunks.folder)


def _save_without_replay(newest: Checkpoint, store: CheckpointStore) -> None:
    tensors = load_tensors(newest.files[_STATE])
    rest = {name: t for name, t in tensors.items() if name.split("/")[1] != "replay"}
    parts = [{**part, "replay": None, "model": _compiling(part)} for part in newest.info["parts"]]
    store.save(newest.step, {_STATE: save_tensors(rest)}, [], {**newest.info, "parts": parts})


def _compiling(part: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a model's data by which it compiles at its first update, not before, if it did."""
    model = part["model"]
    due = model["compiled"] or model["_compiles_next"]
    return {**model, "compiled": False, "_compiles_next": due}


def has_replay(checkpoint: Checkpoint) -> bool:
    """Returns whether a checkpoint holds the replay too."""
    return all(part["replay"] is not None for part in checkpoint.info["parts"])


def _state(task: TaskState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    model_tensors, model = get_state(task.model)
    _check_finite(model_tensors, task.model.num_timesteps)
    arrays, replay = snapshot(_replay(task), _chunk_slots(_replay(task)))
    actions, journal = task.journal.state()
    tensors = {f"model/{name}": tensor for name, tensor in model_tensors.items()}
    tensors |= {f"replay/{name}": torch.from_numpy(array) for name, array in arrays.items()}
    tensors |= {f"journal/{name}": torch.from_numpy(array) for name, array in actions.items()}
    callbacks = {}
    for name, callback in task.stateful_callbacks.items():
        own, callbacks[name] = callback.get_state()
        tensors |= {f"callback/{name}/{key}": tensor for key, tensor in own.items()}
    data = {
        "model": model,
        "replay": replay,
        "journal": journal,
        "callbacks": callbacks,
        "lengths": task.metrics.lengths(),
        # What the next record will have, besides what is looked up then.
        "logged": {name: float(value) for name, value in task.model.logger.name_to_value.items()},
    }
    return {name: tensor.contiguous() for name, tensor in tensors.items()}, data


def _restore(
    task: TaskState,
    tensors: Mapping[str, Tensor],
    data: Mapping[str, Any],
    chunks: Callable[[int], bytes],
) -> None:
    # The callbacks first: one of them puts other environments in place.
    for name, callback in task.stateful_callbacks.items():
        if name in data["callbacks"]:  # else of a version that had no such callback
            callback.set_state(_under(tensors, f"callback/{name}/"), data["callbacks"][name])
    if data["replay"] is not None:
        restore(_replay(task), _arrays(tensors, "replay/"), data["replay"], chunks)
    shown = task.journal.restore(_arrays(tensors, "journal/"), data["journal"])
    if not np.array_equal(np.asarray(shown), tensors["model/last_obs"].numpy()):
        raise RunFolderError(
            "expected the environments to come back as they were, found other observations: use "
            "the versions that provenance.json names"
        )
    set_state(task.model, _under(tensors, "model/"), data["model"])
    total = task.task.config.total_timesteps
    if data["model"]["_total_timesteps"] != total:
        prolong(task.model, total)
    if data["replay"] is None:
        refill(task.model)
    for name, value in data["logged"].items():
        task.model.logger.record(name, value)
    if "train/n_updates" in data["logged"]:  # a whole number, and not for TensorBoard
        n_updates = task.model._n_updates
        task.model.logger.record("train/n_updates", n_updates, exclude="tensorboard")


def _replay(task: TaskState) -> FrameRing:
    assert isinstance(task.model.replay_buffer, FrameRing)
    return task.model.replay_buffer


def _chunk_slots(replay: FrameRing) -> int:
    """Returns the slots of a chunk: of so few frames that writing one is hardly felt, 14 MB."""
    return max(_CHUNK_FRAMES // replay.n_envs, 1)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _arrays(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in _under(tensors, prefix).items()}


def _check_finite(tensors: Mapping[str, Tensor], step: int) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise TrainingError(
                f"step {step}: {name} is not finite any more. A lower --learning-rate, or "
                "--max-grad-norm, may help"
            )


class CheckpointCallback(BaseCallback):
    """Saves a checkpoint every so many steps, and when the user asks to stop.

    Args:
        every_timesteps: Steps between two; 0 leaves out those on the way.
        checkpoints: What saves them; None where nothing can be saved.
        stop: Looked at between two blocks.
        warn: Says what went wrong, where training goes on nevertheless.
    """

    def __init__(
        self,
        every_timesteps: int,
        checkpoints: Checkpoints | None,
        stop: StopSignals,
        warn: Callable[[str], None],
    ) -> None:
        super().__init__()
        self.every_timesteps = every_timesteps
        self.checkpoints = checkpoints
        self.stop = stop
        self.warn = warn
        self.next_at = 0
        self.failures = 0

    def _on_training_start(self) -> None:
        self._plan()

    def _plan(self) -> None:
        every = self.every_timesteps
        self.next_at = (self.model.num_timesteps // every + 1) * every if every else 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.stop.requested is not None:
            if self.checkpoints is not None:
                self.checkpoints.save()
            self.stop.check()
        if self.every_timesteps and self.checkpoints is not None:
            if self.model.num_timesteps >= self.next_at:
                self._plan()
                self._try(self.checkpoints.save)
            elif not self.failures:  # else the next checkpoint will tell whether there is room
                self._try(self.checkpoints.save_chunks)

    def save_last(self) -> None:
        """Saves a checkpoint at the end."""
        if self.checkpoints is not None:
            self._try(self.checkpoints.save)

    def _try(self, to_save: Callable[[], None]) -> None:
        try:
            to_save()
            self.failures = 0
        except RunFolderError as error:
            self.failures += 1
            if self.failures == _MAX_FAILURES:
                raise
            self.warn(f"No checkpoint at step {self.model.num_timesteps:,}: {error}")


class LastBlockCallback(BaseCallback):
    """Does something after the last block of a training.

    Args:
        total_timesteps: Steps of the whole training.
        act: Does it.
    """

    def __init__(self, total_timesteps: int, act: Callable[[], None]) -> None:
        super().__init__()
        self.total_timesteps = total_timesteps
        self.act = act

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.model.num_timesteps >= self.total_timesteps:
            self.act()


class ResumeCallback(BaseCallback):
    """Restores what a checkpoint holds, once everything is as when the run began.

    Args:
        restore: Does it.
    """

    def __init__(self, restore: Callable[[], None]) -> None:
        super().__init__()
        self.restore = restore

    def _on_training_start(self) -> None:
        self.restore()
        self.num_timesteps = self.model.num_timesteps

    def _on_step(self) -> bool:
        return True
