"""Batches of one kind: samples of several tasks, in batches that hold one task each."""

from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from .views import EpochSampler


class TaskBatchSampler(EpochSampler):
    """An `EpochSampler` for joint training whose every batch is of one task. Without it, batches are mixed.

    For a loader with that batch size, which takes as many samples at a time as they come. What is left of the tasks
    after their whole batches comes last, in mixed batches, so that an epoch still sees every sample once.

    Args:
        tasks: of each sample, its task or whatever else batches are not to mix, such as the data set's name.
        batch_size: of one process. With several, each gets batches of one task, at a step not all of the same.
    """

    def __init__(self, tasks: Sequence[Hashable], batch_size: int, seed: int, flip_probability: float = 0.5):
        super().__init__(len(tasks), seed, flip_probability)
        places: dict[Hashable, list[int]] = {}
        for index, task in enumerate(tasks):
            places.setdefault(task, []).append(index)
        self.groups = [np.array(group) for group in places.values()]
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[tuple[int, bool]]:
        random = np.random.default_rng((self.seed, self.epoch))
        batches: list[np.ndarray] = []
        rest: list[np.ndarray] = []
        for group in self.groups:
            order = random.permutation(group)
            whole = len(order) - len(order) % self.batch_size
            batches += list(order[:whole].reshape(-1, self.batch_size))
            rest.append(order[whole:])
        shuffled = [batches[place] for place in random.permutation(len(batches))]
        order = np.concatenate([*shuffled, random.permutation(np.concatenate(rest))])
        flipped = random.random(self.num_images) < self.flip_probability
        for position in range(self.seen, self.num_images):
            yield int(order[position]), bool(flipped[position])
