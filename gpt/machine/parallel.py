"""One process or many: every difference between them is here, so that the trainer has one code path.

DDP copies the model to every device and averages gradients; FSDP2 (`fully_shard`) shards weights, gradients and optimizer state
among them. torchrun starts the processes, or `gpt.machine.launch` where Runtime.processes asks for it. With one process every
function here is the identity or does nothing.
"""

import datetime
import gc
import os
import traceback
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gpt.model.transformer import GPT

TIMEOUT = datetime.timedelta(hours=2)  # the others wait while the first process writes, logs or samples


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Within the block, this process is in the process group that torchrun's environment variables describe.

    DDP must be gone when the block ends. If it were the last to hold the group, it would join gloo's thread without releasing
    Python's lock, for which that thread may wait: a deadlock (torch 2.11 to 2.13).
    """
    if launched() == 1 or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    except Exception:
        dist.distributed_c10d._world.group_count = 0  # else the next group has another number here than elsewhere
        raise
    try:
        yield
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        gc.collect()  # DDP refers to itself
        dist.destroy_process_group()


def launched() -> int:
    """Processes that torchrun (or `gpt.machine.launch`) started; 1 without."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def world_size() -> int:
    """Processes in the group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number among those launched together; also before the group begins, and after it has ended."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this is the first process, which writes files and calls back."""
    return rank() == 0


def all_sum(value: Tensor) -> Tensor:
    """The sum of the processes' values, on each of them."""
    if world_size() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def all_max(value: float, device: torch.device) -> float:
    """The largest of the processes' values, on each of them: what they decide by it, they decide alike. None goes on before all
    have come to this point."""
    if world_size() == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tensor.item()


def full(tensor: Tensor) -> Tensor:
    """The full tensor of a sharded one (every process must call this); any other tensor as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def shard_like(parameter: Tensor, whole: Tensor) -> Tensor:
    """This process's shard of `whole`, which every process has, divided as `parameter` is."""
    if not hasattr(parameter, "full_tensor"):
        return whole
    from torch.distributed.tensor import DTensor, distribute_tensor  # here, because the import takes over a second

    assert isinstance(parameter, DTensor)
    whole = whole.to(parameter.device)
    return distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)


class Objective(nn.Module):
    """The loss as a module's forward, because DDP, FSDP and torch.compile work on that."""

    def __init__(self, model: GPT):
        super().__init__()
        self.model = model

    def forward(
        self, ids_BT: Tensor, targets_BT: Tensor, documents_BT: Tensor | None = None, reduction: str = "sum"
    ) -> Tensor:
        return self.model.loss(ids_BT, targets_BT, documents_BT, reduction)

    def loss(self, ids_BT: Tensor, targets_BT: Tensor, documents_BT: Tensor | None, reduction: str) -> Tensor:
        """As `GPT.loss` with reduction "none", computed by all processes together, each some of the rows: flat (B*T,)."""
        B, T = ids_BT.shape
        rows = torch.arange(-(-B // world_size()), device=ids_BT.device) * world_size() + rank()
        mine = rows.clamp(max=B - 1)  # past the end the last row again; its losses are cut off below
        documents = None if documents_BT is None else documents_BT[mine]
        losses = self(ids_BT[mine], targets_BT[mine], documents, reduction)
        gathered = [torch.empty_like(losses) for _ in range(world_size())]
        dist.all_gather(gathered, losses)
        return torch.stack([part.view(-1, T) for part in gathered], dim=1).view(-1, T)[:B].flatten()


def distribute(objective: Objective, how: str) -> nn.Module:
    """The module to call in training. fsdp also replaces the model's parameters by sharded ones, in place."""
    if world_size() == 1:
        return objective
    if how == "fsdp":
        from torch.distributed.fsdp import fully_shard

        for block in objective.model.blocks:
            fully_shard(block)
        # The root is resharded too: after an evaluation no backward pass does it.
        fully_shard(objective, reshard_after_forward=True)
        return objective
    with warnings.catch_warnings(category=FutureWarning, action="ignore"):  # of a new name that torch 2.11 lacks
        return nn.parallel.DistributedDataParallel(objective, broadcast_buffers=False, gradient_as_bucket_view=True)


def gradient_sync(module: nn.Module, now: bool) -> AbstractContextManager[None]:
    """A context for one micro-batch: its gradients are averaged over processes `now`, or only added up on this one."""
    if isinstance(module, nn.parallel.DistributedDataParallel):
        return nullcontext() if now else module.no_sync()
    if (set_sync := getattr(module, "set_requires_gradient_sync", None)) is not None:  # an FSDP module
        set_sync(now)
    return nullcontext()
