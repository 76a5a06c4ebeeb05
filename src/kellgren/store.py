"""Prepared volumes on disk: one safetensors file a knee, whole or absent, checked on every read."""

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, UInt8

from kellgren.cohort import Case, check_case_id
from kellgren.config import PreparationSettings
from kellgren.faults import InputError
from kellgren.files import digest_of, digest_of_file
from kellgren.preparation import PAPER, check_side, rounded_input, widened
from kellgren.sealed import Record, Sealed, Tensors, read_record, read_sealed, write_sealed
from kellgren.volume import (
    box,
    grid_spacing_mm,
    mirror,
    read_mask,
    read_scan,
    resample_mask,
    shape_of,
    share_of,
    source_files,
)
from kellgren.workers import HANG_S, killed, pool_of

SCHEMA = 2
_AGAIN = "run prepare again"


@dataclass(frozen=True)
class Prepared:
    """What a network sees of one knee, and its cartilage on the same grid.

    Attributes:
        image: z-scored scan, in the frame of a right knee.
        mask: Label of each voxel; None where the case has no segmentation.
        spacing_mm: Size of a voxel along d, h and w.
        mirrored: True for a left knee, whose right and left were exchanged.
        cartilage_share: Share of the voxels of `mask` that are cartilage; None without a mask.
        cartilage_share_scan: The same on the scan's own grid.
        crop_mm: Central box of the scan that `image` shows; None for all of it.
    """

    image: Float32[np.ndarray, "d h w"]
    mask: UInt8[np.ndarray, "d h w"] | None
    spacing_mm: tuple[float, float, float]
    mirrored: bool
    cartilage_share: float | None
    cartilage_share_scan: float | None
    crop_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Store:
    """A folder of prepared volumes, all on one grid.

    Attributes:
        folder: Where the files stand, `<case_id>.safetensors`.
        grid: Slices, rows and columns of each volume.
        cartilage: Labels that count as cartilage, for the recorded shares.
        preparation: What is done to a scan; the default is the paper's.
    """

    folder: Path
    grid: tuple[int, int, int]
    cartilage: tuple[int, ...]
    preparation: PreparationSettings = PAPER

    def path(self, case_id: str) -> Path:
        """File of a case.

        Raises:
            InputError: If the id cannot name a file.
        """
        return self.folder / f"{check_case_id(case_id, str(self.folder))}.safetensors"

    def prepare(self, case: Case) -> None:
        """Read, z-score and resample one knee, unless that very file already stands there.

        A left knee is mirrored along d, so that medial is on the same side in every volume. A
        prepared file stays where its sources have the same bytes and the settings are the same,
        and is otherwise replaced; where preparing fails, what stood there before stays.

        Raises:
            InputError: Naming the case and the file, if a source cannot be used.
        """
        try:
            path, sources = self.path(case.case_id), sources_digest(case)
            if not self._stands(case, sources):
                write_sealed(path, *self._prepared(case, sources))
        except InputError as error:
            raise error.of_case(case.case_id) from error

    def prepare_all(
        self,
        cases: Sequence[Case],
        *,
        keep_going: bool = False,
        progress: Callable[[int, int], None] | None = None,
        workers: int = 1,
    ) -> dict[str, InputError]:
        """Prepare every case; those that are done stay done whatever happens to the others.

        Args:
            cases: The knees.
            keep_going: Go on with the other cases after a fault.
            progress: Called with how many cases are through, and how many there are.
            workers: Processes at work at the same time; each holds one scan in memory.

        Returns:
            The fault of each case that could not be prepared; empty unless `keep_going`.

        Raises:
            InputError: The first fault, unless `keep_going`; or if a worker is killed.
        """
        faults: dict[str, InputError] = {}
        # Closed at once after a fault, so that the workers do not go on with the other cases.
        with closing(self._outcomes(cases, workers)) as outcomes:
            for done, (case_id, fault) in enumerate(outcomes, start=1):
                if fault is not None and not keep_going:
                    raise fault
                if fault is not None:
                    faults[case_id] = fault
                if progress is not None:
                    progress(done, len(cases))
        return faults

    def load(self, case_id: str) -> Prepared:
        """Read one prepared knee, and verify every byte of it.

        Raises:
            InputError: If it is missing, damaged, or prepared with other settings.
        """
        sealed = self._verified(case_id)
        record = sealed.record
        first, second, third = record["spacing_mm"]
        return Prepared(
            widened(sealed.tensors["image"]),
            sealed.tensors.get("mask"),
            (first, second, third),
            record["mirrored"],
            record["cartilage_share"],
            record["cartilage_share_scan"],
            self.preparation.crop_mm,
        )

    def load_half(self, case_id: str) -> Float16[np.ndarray, "d h w"]:
        """Read and verify one prepared scan as it is stored, for a device that widens it itself.

        `load(case_id).image` is the same values as float32; widening is most of what it costs.

        Raises:
            InputError: As for `load`.
        """
        image: Float16[np.ndarray, "d h w"] = self._verified(case_id, ("image",)).tensors["image"]
        return image

    def spacing_mm(self, case_id: str) -> tuple[float, float, float]:
        """Size of a voxel of one prepared knee along d, h and w, from its record alone.

        Raises:
            InputError: As for `load`.
        """
        record = read_record(self.path(case_id), todo=_AGAIN).record
        self._check_record(case_id, record)
        d, h, w = record["spacing_mm"]
        return d, h, w

    def _verified(self, case_id: str, names: tuple[str, ...] | None = None) -> Sealed:
        sealed = read_sealed(self.path(case_id), todo=_AGAIN, names=names)
        self._check_record(case_id, sealed.record)
        return sealed

    def digest(self, case_ids: Sequence[str]) -> str:
        """Digest of the settings and of the voxels of these cases, in whatever order they come.

        Raises:
            InputError: If a case is missing, or prepared with other settings.
        """
        digests = {}
        for case_id in case_ids:
            sealed = read_record(self.path(case_id), todo=_AGAIN)
            self._check_record(case_id, sealed.record)
            digests[case_id] = sealed.digests
        return digest_of([self._settings(), digests])

    def _settings(self) -> dict[str, Any]:  # any JSON value
        return {
            "schema": SCHEMA,
            "grid": list(self.grid),
            "cartilage": sorted(set(self.cartilage)),
            "frame": "right inferior posterior",
            "image": "float16",
            "mask": "nearest-exact, uint8",
            "preparation": self.preparation.model_dump(mode="json"),
        }

    def _check_record(self, case_id: str, record: Record) -> None:
        if record.get("case_id") != case_id:
            raise InputError(
                str(self.path(case_id)),
                f"the case {record.get('case_id')}",
                "the case that the file is named after",
                _AGAIN,
            )
        if record.get("settings") != digest_of(self._settings()):
            raise InputError(
                str(self.path(case_id)),
                "a volume prepared with other settings",
                f"the grid {list(self.grid)}, the labels {list(self.cartilage)} and the"
                " preparation of the study",
                _AGAIN,
            )

    def _stands(self, case: Case, sources: Record) -> bool:
        try:
            record = read_sealed(self.path(case.case_id), todo=_AGAIN).record
            self._check_record(case.case_id, record)
        except InputError:
            return False
        return record["sources"] == sources and record["mirrored"] == self._mirrors(case)

    def _mirrors(self, case: Case) -> bool:
        return case.side == "left" and self.preparation.mirror_left

    def _prepared(self, case: Case, sources: Record) -> tuple[Tensors, Record]:
        scan, mirrored = read_scan(case.image), self._mirrors(case)
        check_side(case, scan)
        crop = self.preparation.crop_mm
        try:
            image = rounded_input(scan, self.grid, mirrored=mirrored, preparation=self.preparation)
            cut = box(shape_of(scan.voxels), scan.spacing_mm, crop)
        except InputError as error:
            raise InputError(str(case.image), error.found, error.needed, error.todo) from error
        tensors, record = (
            {"image": image},
            {
                "case_id": case.case_id,
                "settings": digest_of(self._settings()),
                "sources": sources,
                "mirrored": mirrored,
                "spacing_mm": list(grid_spacing_mm(scan, self.grid, crop_mm=crop)),
                "scan_shape": list(scan.voxels.shape),
                "scan_affine": scan.affine.tolist(),
                "cartilage_share": None,
                "cartilage_share_scan": None,
            },
        )
        if case.segmentation is not None:
            labels = read_mask(case.segmentation, like=scan).labels
            part = labels[cut]
            tensors["mask"] = resample_mask(mirror(part) if mirrored else part, self.grid)
            record["cartilage_share"] = share_of(tensors["mask"], self.cartilage)
            record["cartilage_share_scan"] = share_of(labels, self.cartilage)
        return tensors, record

    def _outcomes(
        self, cases: Sequence[Case], workers: int
    ) -> Generator[tuple[str, InputError | None], None, None]:
        if workers == 1:
            for case in cases:
                yield case.case_id, _fault_of(self, case)
            return
        with pool_of(workers) as pool:
            waiting = {pool.submit(_fault_of, self, case): case.case_id for case in cases}
            try:
                while waiting:
                    ended = wait(waiting, timeout=HANG_S, return_when=FIRST_COMPLETED).done
                    if not ended:
                        killed(pool)
                        raise _stopped(waiting.values(), workers, f"no answer for {HANG_S:g} s")
                    for done in ended:
                        fault = done.result()
                        yield waiting.pop(done), fault
            except BrokenProcessPool as error:
                found = "a worker that was killed, as happens where memory runs out"
                raise _stopped(waiting.values(), workers, found) from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _stopped(waiting: Iterable[str], workers: int, found: str) -> InputError:
    return InputError(
        f"preparing {', '.join(sorted(waiting)[:workers])} or another case",
        found,
        "memory for one scan a worker, and a disk that answers",
        "use fewer workers, or see to the disk; what is prepared is kept",
    )


def _fault_of(store: Store, case: Case) -> InputError | None:
    try:
        store.prepare(case)
    except InputError as error:
        return error
    return None


def sources_digest(case: Case) -> Record:
    """Digest of the bytes of a knee's scan ("image") and, where it has one, label map ("mask").

    Raises:
        InputError: If a file is missing or cannot be read.
    """
    named = {"image": case.image, "mask": case.segmentation}
    return {name: _digest_of_source(path) for name, path in named.items() if path is not None}


def _digest_of_source(path: Path) -> str:
    files = source_files(path)
    for file in files:
        if not file.is_file():
            raise InputError(str(file), "no such file", "a scan or mask", "check the path")
    try:
        return digest_of([digest_of_file(file) for file in files])
    except OSError as error:
        raise InputError(
            str(path),
            f"a file that cannot be read ({error.strerror})",
            "a readable scan or mask",
            "check its permissions and the disk",
        ) from error
