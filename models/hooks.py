"""Forward hooks that cannot leak: each is a context manager that removes what it put in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from models.deltas import Site


class StopForwardError(Exception):
    """Ends a forward pass whose rest is not needed."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Ends the block quietly when a hook raises `StopForwardError`."""
    try:
        yield
    except StopForwardError:
        return


@contextmanager
def hooked(module: nn.Module, stop: Callable[..., None]) -> Iterator[None]:
    """Calls `stop(module, args, kwargs)` before the module runs, inside the block only."""
    handle = module.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def forward_hooks(hooks: Iterable[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Calls each `hook(module, args, output)` after its module runs, inside the block only.

    What a hook returns, unless None, takes the place of the module's output.
    """
    with ExitStack() as stack:
        for module, hook in hooks:
            stack.callback(module.register_forward_hook(hook).remove)
        yield


@contextmanager
def tapped(
    linears: Mapping[Site, nn.Module], taps: dict[Site, tuple[Tensor, Tensor]]
) -> Iterator[None]:
    """Stores input and output of each map; the lowest output becomes the start of the graph."""

    def tap_for(site: Site) -> Callable[..., Tensor]:
        def tap(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if not output.requires_grad:
                output = output.detach().requires_grad_(True)
            taps[site] = (args[0].detach(), output)
            return output

        return tap

    with forward_hooks((module, tap_for(site)) for site, module in linears.items()):
        yield


@contextmanager
def added(
    module: nn.Module, row: Tensor, position: Tensor, vectors: Tensor, n_rows: int
) -> Iterator[None]:
    """Adds vectors to a map's output at some tokens, inside the block only.

    Args:
        module: its output is (R, T, d) or, as in OPT, (R * T, d).
        row: (I,).
        position: (I,).
        vectors: (I, d), with a graph where gradients are wanted.
        n_rows: R.
    """

    def add(_module: nn.Module, _args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        whole = output.reshape(n_rows, -1, output.shape[-1])
        moved = whole[row, position] + vectors.to(output.dtype)
        return whole.index_put((row, position), moved).reshape(output.shape)

    with forward_hooks([(module, add)]):
        yield


@contextmanager
def replaced(
    module: nn.Module, row: Tensor, position: Tensor, vectors: Tensor, n_rows: int
) -> Iterator[None]:
    """Puts vectors in place of a module's output at some tokens, inside the block only.

    Args:
        module: a decoder layer (its output may be a tuple) or a linear map.
        row: (I,).
        position: (I,).
        vectors: (I, d).
        n_rows: R.
    """

    def put(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        tensor = output[0] if isinstance(output, tuple) else output
        whole = tensor.reshape(n_rows, -1, tensor.shape[-1])
        changed = whole.index_put((row, position), vectors.to(whole.dtype)).reshape(tensor.shape)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    with forward_hooks([(module, put)]):
        yield
