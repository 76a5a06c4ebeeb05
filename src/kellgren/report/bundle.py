"""The layout of a MONAI bundle around a shared network.

It is written so that tools which know the layout find input, outputs and provenance. kellgren
never evaluates it: its configs are data here, not programs.
"""

from typing import Any

from kellgren.grading import NOTICE
from kellgren.report.card import shared_record
from kellgren.runs import Run

PROGRAM = "models/model.pt2"
SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)


def metadata(run: Run, *, licence: str) -> dict[str, Any]:
    """`configs/metadata.json`: what the network takes and gives."""
    record = shared_record(run)
    asked, made_with = record["asked"], record["made_with"]
    channel = {"type": "image", "num_channels": 1, "is_patch_data": False, "dtype": "float32"}
    image = {
        **channel,
        "format": "magnitude",
        "modality": "MR",
        "spatial_shape": asked["backbone"]["grid"],
        "value_range": [],
        "channel_def": {"0": "knee MRI, z-scored over the scan"},
    }
    heads = {"oa": (1, "log-odds of OA, KL 2 or above"), "kl": (5, "logits of KL grades 0 to 4")}
    outputs = {
        f"logit_{task}": {
            "type": "probabilities",
            "format": "logits",
            "num_channels": heads[task][0],
            "spatial_shape": [],
            "dtype": "float32",
            "is_patch_data": False,
            "channel_def": {"0": heads[task][1]},
        }
        for task in asked["tasks"]
    }
    return {
        "schema": SCHEMA,
        "version": made_with["kellgren"],
        "changelog": {made_with["kellgren"]: f"exported from {run.name}"},
        "monai_version": "1.5.0",
        "pytorch_version": made_with["torch"],
        "numpy_version": made_with["numpy"],
        "task": "KL grade and OA of a knee from 3-D MRI",
        "name": run.name,
        "description": f"{run.name}. {NOTICE}",
        "authors": "see README.md",
        "copyright": licence or "none stated",
        "intended_use": NOTICE,
        "network_data_format": {"inputs": {"image": image}, "outputs": outputs},
    }


def inference() -> dict[str, Any]:
    """`configs/inference.json`: how MONAI finds the network; evaluated by MONAI, never by us."""
    return {
        "bundle_root": ".",
        "network_file": f"$@bundle_root + '/{PROGRAM}'",
        "network": "$__import__('torch').export.load(@network_file).module()",
    }
