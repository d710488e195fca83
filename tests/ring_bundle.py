"""A bundle of a model that was trained on the ring, whose data are gone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from small import cycle_settings, known_to

from recbole_fofa.quick_start import run_recbole_fofa

N_ITEMS = 15


TOKENS = [f"i{n}" for n in range(N_ITEMS)]


FIXTURE_IS_READ_ONLY = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None
)


def bundle_of(tmp_path: Path, model: str = "ForwardOFA", **changes: Any) -> Path:
    """Train on the ring, then take the data away."""
    given = cycle_settings(tmp_path, n_layers=3, keep_bias=0.0, **changes)
    names = {"output_dir", "quiet"}
    given = {**known_to(model, given), **{name: given[name] for name in names}}
    run_recbole_fofa(model, config_dict=given)
    (folder,) = (tmp_path / "out" / "saved").glob("*-bundle")
    shutil.rmtree(tmp_path / "data")
    return folder
