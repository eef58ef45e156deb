"""The steps of a training: how many, in which epochs, and which of them update the weights."""

from dataclasses import dataclass

from ..errors import RunError
from .arguments import RunArguments


@dataclass(frozen=True)
class Schedule:
    """Steps are batches, counted from 0 over the whole run; epochs count from 1."""

    steps_per_epoch: int
    num_steps: int
    accumulation: int = 1  # steps an update

    @classmethod
    def of(cls, args: RunArguments, num_images: int, num_processes: int = 1, accumulation: int = 1) -> "Schedule":
        """The schedule of a stage.

        Raises:
            RunError: for fewer images than a batch, or a batch that does not split over the processes.
        """
        if num_images < args.batch_size:
            raise RunError(
                f"{num_images} images do not fill a batch of {args.batch_size}. Bring more, or lower --batch_size."
            )
        if args.batch_size % num_processes:
            raise RunError(f"--batch_size {args.batch_size} does not split over {num_processes} processes.")
        steps_per_epoch = num_images // args.batch_size
        num_steps = steps_per_epoch * args.num_epochs
        return cls(steps_per_epoch, min(num_steps, args.max_steps or num_steps), accumulation)

    @property
    def updates_per_epoch(self) -> int:
        return -(-self.steps_per_epoch // self.accumulation)

    @property
    def num_updates(self) -> int:
        epochs, rest = divmod(self.num_steps, self.steps_per_epoch)
        return epochs * self.updates_per_epoch + -(-rest // self.accumulation)

    def epochs(self, step: int) -> range:
        """The epochs that are left after `step` steps, the one begun first."""
        first = step // self.steps_per_epoch + 1
        return range(first, -(-self.num_steps // self.steps_per_epoch) + 1) if step < self.num_steps else range(0)

    def place(self, step: int) -> int:
        """The number of steps before a step in its epoch."""
        return step % self.steps_per_epoch

    def is_update(self, step: int) -> bool:
        """Whether the weights are updated by a step: every so many, and at the end of an epoch."""
        return (self.place(step) + 1) % self.accumulation == 0 or self.ends_epoch(step + 1)

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch, or the run, is over after `step` steps."""
        return self.place(step) == 0 or step == self.num_steps
