"""Each backbone against its reference with copied weights, and its MACs against those counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small import SIZES, batch, cycle_settings, small_network
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from recbole_fofa.model.backbone import BACKBONES
from recbole_fofa.model.backbone.gru4rec import recur
from recbole_fofa.model.network import AdaptiveNetwork
from recbole_fofa.quick_start import build_model, checked_config, prepare_data

LENGTH = 6


def static(backbone: str, **changes: Any) -> AdaptiveNetwork:
    network = small_network(backbone=backbone, use_controller=False, use_mapper=False, **changes)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network


def recboles(tmp_path: Path, model: str, **changes: Any) -> Any:
    """RecBole's own class, with weights as large as those of :func:`static`."""
    same = ["dataset", "output_dir", "quiet", "topk", "valid_metric", "metrics", "load_col"]
    settings = cycle_settings(tmp_path)
    config = checked_config(
        model, config_dict={**{name: settings[name] for name in same}, **changes}
    )
    network = build_model(config, prepare_data(config)[0]).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network


@pytest.mark.parametrize(("kernel_size", "dilations"), [(3, [1, 2]), (2, [1]), (4, [2, 3, 1])])
def test_nextitnet_is_recboles(tmp_path: Path, kernel_size: int, dilations: list[int]) -> None:
    n_layers = 2 * len(dilations)
    sizes = {"kernel_size": kernel_size, "dilations": dilations}
    theirs = recboles(tmp_path, "NextItNet", embedding_size=8, block_num=2, **sizes)
    ours = static("nextitnet", n_layers=n_layers, **sizes)
    with torch.no_grad():
        ours.backbone.final_layer.load_state_dict(theirs.final_layer.state_dict())
        for base, block in zip(ours.base, theirs.residual_blocks, strict=True):
            for which, conv, norm in (("1", block.conv1, block.ln1), ("2", block.conv2, block.ln2)):
                # [out, in, 1, K] to [out, K * in]
                weight = conv.weight.squeeze(2).transpose(1, 2).flatten(1)
                base[f"conv_{which}_weight"].copy_(weight)
                base[f"conv_{which}_bias"].copy_(conv.bias)
                base[f"norm_{which}_weight"].copy_(norm.weight)
                base[f"norm_{which}_bias"].copy_(norm.bias)
    item_seq = torch.randint(1, 10, (5, LENGTH))
    x = theirs.item_embedding(item_seq)
    hidden = ours(x, ours.adapt(*batch()[1:]))
    # RecBole reads the last position.
    torch.testing.assert_close(hidden[:, -1], theirs.forward(item_seq), atol=1e-5, rtol=1e-5)


def test_gru4rec_recurs_as_recboles(tmp_path: Path) -> None:
    theirs = recboles(tmp_path, "GRU4Rec", embedding_size=8, hidden_size=8, num_layers=1)
    gru, width = theirs.gru_layers, 8
    parameters = {
        "input_weight": gru.weight_ih_l0,
        "state_weight": gru.weight_hh_l0,
        "input_bias": torch.zeros(3 * width),  # RecBole's has none
        "state_bias": torch.zeros(3 * width),
    }
    item_seq = torch.randint(1, 10, (5, LENGTH))
    states = recur(theirs.item_embedding(item_seq), parameters)
    expected = theirs.forward(item_seq, torch.full((5,), LENGTH))
    torch.testing.assert_close(theirs.dense(states)[:, -1], expected, atol=1e-5, rtol=1e-5)


def test_gru4rec_block_is_a_residual_around_torchs_gru() -> None:
    network = static("gru4rec")
    gru = torch.nn.GRU(8, 8, batch_first=True)
    base = network.base[1]
    with torch.no_grad():
        gru.weight_ih_l0.copy_(base["input_weight"])
        gru.weight_hh_l0.copy_(base["state_weight"])
        gru.bias_ih_l0.copy_(base["input_bias"])
        gru.bias_hh_l0.copy_(base["state_bias"])
    x, _, _ = batch()
    expected = F.layer_norm(x + gru(x)[0], (8,), base["norm_weight"], base["norm_bias"], 1e-12)
    found = network.backbone.apply_block(1, x, dict(base.named_parameters()))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_fmlprec_filter_is_a_causal_convolution() -> None:
    network = static("fmlprec")
    x, _, _ = batch()
    kernel = network.base[0]["filter_weight"]  # [D, T]
    padded = F.pad(x.transpose(1, 2), (LENGTH - 1, 0))
    expected = F.conv1d(padded, kernel.flip(-1).unsqueeze(1), groups=8).transpose(1, 2)
    found = network.backbone.mix(x, {"filter_weight": kernel})
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backbone", ["sasrec", "nextitnet", "gru4rec"])
def test_macs_are_those_counted(backbone: str) -> None:
    """FMLP-Rec's transform is not counted by torch; its closed form is the direct sum."""
    network = static(backbone)
    parameters = dict(network.base[0].named_parameters())
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network.backbone.apply_block(0, torch.randn(1, LENGTH, 8), parameters)
    assert counter.get_total_flops() == 2 * network.backbone.block_macs(0, LENGTH)


def test_macs_of_fmlprec() -> None:
    backbone = static("fmlprec").backbone
    lags = sum(position + 1 for position in range(LENGTH)) * 8
    assert backbone.block_macs(0, LENGTH) == lags + 2 * LENGTH * 8 * SIZES["inner_size"]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_number_of_parameters(backbone: str) -> None:
    D, inner, K = 8, SIZES["inner_size"], 3
    expected = {
        "sasrec": 4 * D * D + 2 * D * inner + 9 * D + inner,
        "nextitnet": 2 * K * D * D + 6 * D,
        "gru4rec": 6 * D * D + 8 * D,
        "fmlprec": D * LENGTH + 2 * D * inner + 5 * D + inner,
    }
    network = static(backbone)
    assert network.backbone.blocks[0].size == expected[backbone]
    assert sum(p.numel() for p in network.base[0].parameters()) == expected[backbone]
