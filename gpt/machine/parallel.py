"""One process or many: what differs between them is here, so that the trainer has one code path.

DDP copies the model to every device and averages gradients; FSDP2 (`fully_shard`) cuts weights, gradients and optimizer state
among them. Processes are started by torchrun, or by `launch` from Runtime.processes. With one process, and outside a
group, every function here is the identity or a no-op.
"""

import datetime
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

PATIENCE = datetime.timedelta(hours=2)  # the others wait while the first process writes, logs or samples


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Join the process group that the environment (torchrun's variables) tells of, for the length of the block."""
    if launched() == 1 or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def launched() -> int:
    """Processes that torchrun (or `gpt.machine.launch`) started; 1 without."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_here() -> int:
    """Of them, those on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def local_rank() -> int:
    """This process's number on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world() -> int:
    """Processes in the group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number in the group; the first, 0, writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the process that writes files and calls back."""
    return rank() == 0


def barrier() -> None:
    """Wait until all processes are here."""
    if world() > 1:
        dist.barrier()


def total(value: Tensor) -> Tensor:
    """The sum over all processes, on each; `value` itself with one."""
    if world() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def agreed(value: float, device: torch.device) -> float:
    """The largest of the processes' values: what they all act upon, so that none waits for another in vain."""
    if world() == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tensor.item()


def whole(tensor: Tensor) -> Tensor:
    """The full tensor of one that is sharded (every process must ask); any other as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def placed_like(parameter: Tensor, full: Tensor) -> Tensor:
    """This process's part of `full`, which every process has, cut as `parameter` is."""
    if not hasattr(parameter, "full_tensor"):
        return full
    from torch.distributed.tensor import distribute_tensor

    full = full.to(parameter.device)
    return distribute_tensor(full, parameter.device_mesh, parameter.placements, src_data_rank=None)


class Objective(nn.Module):
    """The loss as a module's forward, because DDP, FSDP and torch.compile work on that."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, ids_BT: Tensor, targets_BT: Tensor, documents_BT: Tensor | None, reduction: str) -> Tensor:
        return self.model.loss(ids_BT, targets_BT, documents_BT, reduction)


def spread(objective: Objective, how: str) -> nn.Module:
    """The module to call in training. fsdp also replaces the model's parameters by sharded ones, in place."""
    if world() == 1:
        return objective
    if how == "fsdp":
        from torch.distributed.fsdp import fully_shard

        for block in objective.model.blocks:
            fully_shard(block)
        # Whole only while in use, also at the root: an average that takes the weights' place must be seen (`gpt.model.ema`).
        return fully_shard(objective, reshard_after_forward=True)
    with warnings.catch_warnings(
        category=FutureWarning, action="ignore"
    ):  # of a new name that torch 2.11 does not know
        return nn.parallel.DistributedDataParallel(objective, broadcast_buffers=False, gradient_as_bucket_view=True)


def gradients_wait(module: nn.Module, wait: bool) -> Any:
    """A context for one micro-batch: with `wait`, its gradients are gathered here and not yet averaged over processes."""
    if isinstance(module, nn.parallel.DistributedDataParallel):
        return module.no_sync() if wait else nullcontext()
    if hasattr(module, "set_requires_gradient_sync"):
        module.set_requires_gradient_sync(not wait)
    return nullcontext()


class Scorer(nn.Module):
    """A model for `gpt.evaluation.score` whose loss is computed by all processes together, some rows each."""

    def __init__(self, objective: nn.Module):
        super().__init__()
        self.objective = objective

    def loss(
        self, ids_BT: Tensor, targets_BT: Tensor, documents_BT: Tensor | None = None, reduction: str = "none"
    ) -> Tensor:
        """As `GPT.loss` with reduction "none": flat (B*T,), the same on every process."""
        assert reduction == "none"
        B, T = ids_BT.shape
        rows = torch.arange(-(-B // world()), device=ids_BT.device) * world() + rank()
        mine = rows.clamp(max=B - 1)  # past the end the last row again; its losses are cut off below
        losses = self.objective(
            ids_BT[mine], targets_BT[mine], None if documents_BT is None else documents_BT[mine], "none"
        )
        gathered = [torch.empty_like(losses) for _ in range(world())]
        dist.all_gather(gathered, losses)
        return torch.stack([part.view(-1, T) for part in gathered], dim=1).view(-1, T)[:B].flatten()
