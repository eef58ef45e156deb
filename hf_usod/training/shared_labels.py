"""The labels of a run on several machines: each has a store of its own, and before each checkpoint all are the same.

A store is a file that is mapped into memory, which one machine's processes see alike, and two machines' do not, even
where they share the file system.
"""

from collections.abc import Sequence

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from ..labels import LabelStore
from .processes import machine_of

AT_A_TIME = 64  # labels: 50 MiB at 320 pixels a side


def equalize_labels(store: LabelStore, accelerator: Accelerator) -> None:
    """Gives all machines the labels of the main process's, where theirs are others: a run that goes on has one state.
    Called by all processes."""
    if machine_of(accelerator).count == 1:
        return
    if len(set(gather_object([store.state()]))) == 1:
        return
    for start in range(0, len(store), AT_A_TIME):
        indices = range(start, min(start + AT_A_TIME, len(store)))
        (slots,) = broadcast_object_list([store.slots(indices) if accelerator.is_main_process else None])
        if accelerator.is_local_main_process and not accelerator.is_main_process:
            store.put_slots(indices, *slots)
    accelerator.wait_for_everyone()


def share_labels(store: LabelStore, written: Sequence[int], accelerator: Accelerator) -> None:
    """Gives all machines the labels that each process has written. Called by all processes.

    Args:
        written: the samples of this process.
    """
    if machine_of(accelerator).count == 1:
        return
    for start in range(0, max(gather_object([len(written)])), AT_A_TIME):
        own = list(written[start : start + AT_A_TIME])
        for indices, slots in gather_object([(own, store.slots(own))]):
            if accelerator.is_local_main_process:
                store.put_slots(indices, *slots)
    accelerator.wait_for_everyone()
