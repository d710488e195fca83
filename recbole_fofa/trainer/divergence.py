"""Where a run that is no longer finite went wrong."""

from __future__ import annotations

from typing import Any

import torch


def first_culprit(model: Any, batch: Any) -> str:
    """The first part that is not finite, and the norm of all parameters.

    Args:
        model: May have ``non_finite_parts(batch)``, which knows of generated tensors too.
        batch: The latest batch.
    """
    norms = [parameter.detach().double().norm() for parameter in model.parameters()]
    total = torch.stack(norms).norm().item()
    parts: Any = (
        f"parameter {name}"
        for name, parameter in model.named_parameters()
        if not bool(parameter.isfinite().all())
    )
    if hasattr(model, "non_finite_parts"):
        with torch.no_grad():
            parts = list(model.non_finite_parts(batch))
    first = next(iter(parts), "all parameters are finite")
    return f"{first}, norm of the parameters {total:.4g}"
