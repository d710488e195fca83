"""RecBole's models of several stages, whose first one ends with a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from data_files import interactions, write_file, write_inter

from recbole_fofa.quick_start import run_recbole_fofa
from recbole_fofa.trainer.checkpoint import load_checkpoint


def settings(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    folder = write_inter(tmp_path, "shop", interactions())
    kinds = [[f"i{item}", f"c{item % 4}"] for item in range(30)]
    write_file(folder / "shop.item", ("item_id:token", "category:token"), kinds)
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "category"]}
    common = {"dataset": str(folder), "quiet": True, "load_col": columns, "epochs": 1}
    return {**common, "output_dir": str(tmp_path / "out"), "save_step": 1, **changes}


def test_s3rec_is_pretrained_and_finetuned(tmp_path: Path) -> None:
    small = {"MAX_ITEM_LIST_LENGTH": 5, "hidden_size": 16, "item_attribute": "category"}
    first = settings(tmp_path, train_stage="pretrain", pretrain_epochs=2, **small)
    run_recbole_fofa("S3Rec", config_dict=first)
    files = sorted((tmp_path / "out" / "saved").glob("*.pth"))
    assert [file.name for file in files] == ["S3Rec-shop-1.pth", "S3Rec-shop-2.pth"]
    assert load_checkpoint(files[1])["epoch"] == 1
    second = settings(tmp_path, train_stage="finetune", pre_model_path=str(files[1]), **small)
    result = run_recbole_fofa("S3Rec", config_dict=second)
    assert result["test_result"]["ndcg@10"] > 0


def test_ract_is_pretrained(tmp_path: Path) -> None:
    given = settings(tmp_path, pretrain_epochs=2, train_stage="actor_pretrain")
    result = run_recbole_fofa("RaCT", config_dict=given)
    assert result["test_result"]["ndcg@10"] > 0 and result["best_valid_score"] is None
    (last,) = (tmp_path / "out" / "saved").glob("RaCT-shop-2.pth")
    assert torch.load(last, weights_only=True)["epoch"] == 1  # as its next stage reads it
