"""A run: one trained model and all that it left behind, in one folder."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kellgren.faults import InputError
from kellgren.files import readable

# Goes up whenever a run folder cannot be read by the version before.
SCHEMA = 1
RUN_NAME = re.compile(r"(?P<backbone>[a-z0-9_]+)-(?P<supervision>[a-z0-9_]+)-s(?P<seed>\d+)")


@dataclass(frozen=True)
class Run:
    """One folder named `<backbone>-<supervision>-s<seed>`.

    Attributes:
        folder: Where the run lives.
        backbone: For example "resnet3d".
        supervision: "single_oa", "single_kl" or "dual".
        seed: Seed of initialisation and data order.

    >>> Run.at(Path("runs/m3t-single_kl-s0")).supervision
    'single_kl'
    """

    folder: Path
    backbone: str
    supervision: str
    seed: int

    @classmethod
    def at(cls, folder: Path) -> "Run":
        """The run of a folder, by its name.

        Raises:
            InputError: If the name is not of that form.
        """
        match = RUN_NAME.fullmatch(folder.name)
        if match is None:
            raise InputError(
                str(folder),
                f"a folder named '{folder.name}'",
                "<backbone>-<supervision>-s<seed>, such as resnet3d-dual-s0",
                "rename it",
            )
        return cls(folder, match["backbone"], match["supervision"], int(match["seed"]))

    @classmethod
    def all_in(cls, folder: Path) -> list["Run"]:
        """Every run folder directly below `folder` that holds predictions, by name.

        Raises:
            InputError: If there is none.
        """
        if not folder.is_dir():
            raise InputError(
                str(folder), "no such folder", "a folder of run folders", "check the path"
            )
        found = [cls.at(p.parent) for p in sorted(folder.glob("*/predictions.csv"))]
        if not found:
            raise InputError(
                str(folder),
                "no predictions.csv in any folder below",
                "run folders that hold predictions.csv",
                "train and predict first, or check the path",
            )
        return found

    @property
    def name(self) -> str:
        """Name of the folder."""
        return f"{self.backbone}-{self.supervision}-s{self.seed}"

    @property
    def settings_file(self) -> Path:
        """`run.json`: what was asked, with defaults filled in, and what it ran on."""
        return self.folder / "run.json"

    @property
    def log(self) -> Path:
        """`log.csv`: epoch, losses, seconds, learning rate."""
        return self.folder / "log.csv"

    @property
    def checkpoint(self) -> Path:
        """`last.safetensors`: where training can be taken up again; removed at the end."""
        return self.folder / "last.safetensors"

    @property
    def earlier_checkpoint(self) -> Path:
        """`earlier.safetensors`: the checkpoint before the last; removed at the end."""
        return self.folder / "earlier.safetensors"

    @property
    def weights(self) -> Path:
        """`weights.safetensors`: the weights after the last epoch."""
        return self.folder / "weights.safetensors"

    @property
    def predictions(self) -> Path:
        """`predictions.csv`: logits of every case."""
        return self.folder / "predictions.csv"

    @property
    def features(self) -> Path:
        """`features.npz`: penultimate features of every case."""
        return self.folder / "features.npz"

    @property
    def overlap(self) -> Path:
        """`overlap.csv`: saliency against cartilage, per test case and head."""
        return self.folder / "overlap.csv"

    @property
    def controls(self) -> Path:
        """`controls.csv`: overlap of maps that no trained network made, per test case."""
        return self.folder / "controls.csv"

    @property
    def deletion(self) -> Path:
        """`deletion.csv`: change of the logit when cartilage, or as much elsewhere, is deleted."""
        return self.folder / "deletion.csv"

    @property
    def randomisation(self) -> Path:
        """`randomisation.csv`: saliency of layer-by-layer randomised networks against our own."""
        return self.folder / "randomisation.csv"

    @property
    def planted(self) -> Path:
        """`planted.csv`: saliency on the signs that were planted in the knees of a phantom."""
        return self.folder / "planted.csv"

    @property
    def exemplars(self) -> Path:
        """`exemplars.npz`: slices of scan, cartilage and saliency for the figures."""
        return self.folder / "exemplars.npz"

    @property
    def attribution(self) -> Path:
        """`attribution.csv`: how much each radiomic feature carries, of a radiomics system."""
        return self.folder / "attribution.csv"

    @property
    def saliency(self) -> Path:
        """Folder of saliency maps as NIfTI, each on its scan's own grid."""
        return self.folder / "saliency"

    def record(self) -> dict[str, Any]:
        """Content of `run.json`; empty where the run was made elsewhere and has none.

        Raises:
            InputError: If the file is damaged, or of another schema.
        """
        if not self.settings_file.exists():
            return {}
        with readable(self.settings_file, todo="train the run again"):
            content: dict[str, Any] = json.loads(self.settings_file.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ValueError(f"a {type(content).__name__}, not an object")
        _refuse_newer(self.settings_file, content.get("schema", SCHEMA))
        return content


def _refuse_newer(path: Path, schema: object) -> None:
    if schema != SCHEMA:
        raise InputError(
            str(path),
            f"a run of schema {schema}",
            f"schema {SCHEMA}, the one that this version reads",
            "use the version of kellgren that made it",
        )
