"""Optimisers of torch.optim by name, their arguments, and whether they take gradients of touched rows only."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from skiplight.errors import ConfigError

SPARSE: dict[type[torch.optim.Optimizer], set[str]] = {
    torch.optim.SGD: {"dampening", "maximize", "foreach"},
    torch.optim.Adagrad: {"lr_decay", "initial_accumulator_value", "eps", "maximize", "foreach"},
    torch.optim.SparseAdam: {"betas", "eps", "maximize"},
}
"""Optimisers that take sparse gradients, and their arguments with which they still do: momentum and weight decay move
every row in every step, which torch's optimisers do for dense gradients only."""


def optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    """Return the optimiser class of torch.optim called `name`, in any case and with or without underscores.

    Raises:
        ConfigError: there is no such class, or it computes the loss of a step more than once.

    >>> optimizer_class("sparse_adam").__name__
    'SparseAdam'
    """
    classes = {
        key.lower(): value
        for key, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
    }
    found = classes.get(name.replace("_", "").lower())
    if found is None:
        raise ConfigError(f"`optim.name={name}` is no optimiser of torch.optim: it has {', '.join(sorted(classes))}")
    if found is torch.optim.LBFGS:
        raise ConfigError("`optim.name=lbfgs` needs the loss of a step more than once: choose a first-order optimiser")
    return found


def optimizer_args(name: str, args: Any) -> dict[str, Any]:
    """Return the arguments of the optimiser called `name`, after it was made with them for a small table.

    Args:
        name: as for `optimizer_class`.
        args: a mapping of arguments besides the parameters and the learning rate, or None.

    Raises:
        ConfigError: it has no such argument, or refuses a value.
    """
    made = optimizer_class(name)
    known = [p for p in inspect.signature(made).parameters if p not in ("params", "lr")]
    if args is not None and not isinstance(args, Mapping):
        raise ConfigError(f"`optim.args={args}` must be a mapping of arguments, as in `optim.args.weight_decay=1e-6`")
    found = {str(key): tuple(value) if isinstance(value, list) else value for key, value in (args or {}).items()}
    for key, value in found.items():
        if key == "lr":
            raise ConfigError(f"`optim.args.lr={value}`: give `optim.lr={value}`, which the schedule multiplies")
        if key not in known:
            raise ConfigError(f"`optim.args.{key}={value}`: {made.__name__} has {', '.join(known) or 'none'}")
    try:
        table = torch.nn.Parameter(torch.ones(2, 2))
        optimizer = make_optimizer(name, [table], 1e-3, found)
        gradient = torch.ones(2, 2)
        table.grad = gradient.to_sparse(1) if keeps_sparse(made, changed_args(optimizer)) else gradient
        with warnings.catch_warnings():
            # Adagrad squares a sparse gradient into a sparse tensor whose indices are known to be good.
            warnings.filterwarnings("ignore", "Sparse invariant checks are implicitly disabled.*")
            optimizer.step()
    except Exception as error:
        shown = ", ".join(f"`optim.args.{key}={value}`" for key, value in found.items())
        raise ConfigError(f"{shown or f'`optim.name={name}`'}: {made.__name__} refuses it: {error}") from error
    return found


def changed_args(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the arguments of an optimiser, but for its learning rate, that differ from their defaults."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(type(optimizer)).parameters.items()
        if name not in ("params", "lr")
    }
    return {
        name: group[name]
        for group in optimizer.param_groups
        for name, default in defaults.items()
        if name in group and group[name] != default and not (default is None and not group[name])
    }


def keeps_sparse(kind: type[torch.optim.Optimizer], changed: Iterable[str]) -> bool:
    """Return whether a class of optimisers takes sparse gradients, of the touched rows only.

    Args:
        kind: the class.
        changed: its arguments that are not at their defaults.
    """
    return kind in SPARSE and SPARSE[kind] >= set(changed)


def takes_sparse(name: str, args: Mapping[str, Any] | None = None) -> bool:
    """Return whether the optimiser called `name`, with these arguments, takes sparse gradients."""
    return keeps_sparse(optimizer_class(name), changed_args_of(name, args))


def changed_args_of(name: str, args: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the arguments that differ from the defaults of the optimiser called `name`."""
    return changed_args(make_optimizer(name, [torch.nn.Parameter(torch.zeros(1, 1))], 1e-3, args))


def make_optimizer(
    name: str, parameters: Iterable[torch.nn.Parameter], lr: float, args: Mapping[str, Any] | None = None
) -> torch.optim.Optimizer:
    """Return the optimiser called `name`, with `optim.args` as `optimizer_args` returns them."""
    return optimizer_class(name)(parameters, lr=lr, **(args or {}))  # type: ignore[call-arg]
