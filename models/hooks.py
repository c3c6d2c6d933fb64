"""Forward hooks that cannot leak: each is a context manager that removes what it put in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
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
def pre_hook(module: nn.Module, hook: Callable[..., None]) -> Iterator[None]:
    """Calls `hook(module, args, kwargs)` before the module runs, inside the block only."""
    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
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
def capture_linears(
    linears: Mapping[Site, nn.Module], captured: dict[Site, tuple[Tensor, Tensor]]
) -> Iterator[None]:
    """Stores input and output of each map; the lowest output becomes the start of the graph."""

    def hook_for(site: Site) -> Callable[..., Tensor]:
        def hook(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if not output.requires_grad:
                output = output.detach().requires_grad_(True)
            captured[site] = (args[0].detach(), output)
            return output

        return hook

    with forward_hooks((module, hook_for(site)) for site, module in linears.items()):
        yield


def add_to_output(
    module: nn.Module, row: Tensor, position: Tensor, vectors: Tensor, n_rows: int
) -> AbstractContextManager[None]:
    """Adds vectors to a module's output at some tokens, inside the block only.

    Args:
        module: a decoder layer (its output may be a tuple) or a linear map; the tensor is (R, T, d)
            or, as in OPT, (R * T, d).
        row: (I,).
        position: (I,).
        vectors: (I, d), with a graph where gradients are wanted.
        n_rows: R.
    """
    return _change_output(
        module, row, position, n_rows,
        lambda output: _at(output, row, position) + vectors.to(output),
    )  # fmt: skip


def replace_output(
    module: nn.Module, row: Tensor, position: Tensor, vectors: Tensor, n_rows: int
) -> AbstractContextManager[None]:
    """Puts vectors in place of a module's output at some tokens; otherwise as `add_to_output`."""
    return _change_output(module, row, position, n_rows, lambda output: vectors.to(output))


def _change_output(
    module: nn.Module,
    row: Tensor,
    position: Tensor,
    n_rows: int,
    new_vectors: Callable[[Tensor], Tensor],
) -> AbstractContextManager[None]:
    """`new_vectors` makes (I, d) of the output (R, T, d)."""

    def hook(_module: nn.Module, _args: object, output: Any) -> Any:
        tensor = output[0] if isinstance(output, tuple) else output
        whole = tensor.reshape(n_rows, -1, tensor.shape[-1])
        where = (row.to(whole.device), position.to(whole.device))
        changed = whole.index_put(where, new_vectors(whole)).reshape(tensor.shape)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return forward_hooks([(module, hook)])


def _at(whole: Tensor, row: Tensor, position: Tensor) -> Tensor:
    """(R, T, d) -> (I, d), wherever the indices are."""
    vectors: Tensor = whole[row.to(whole.device), position.to(whole.device)]
    return vectors
