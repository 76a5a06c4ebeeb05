"""Knees and files that are broken on purpose, for the tests of the fault corpus."""

import io
import re
import signal
import struct
import sys
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import nibabel as nib
import numpy as np

from kellgren.cli import main
from kellgren.cli.signals import EXIT_CODES
from kellgren.cohort import Case, write_cohort
from kellgren.inspection import look_deep
from kellgren.store import Store

KNEE = (80, 192, 192)  # d, h, w: to the right, down, to the back
SPACING = (1.4, 0.72, 0.72)
SMALL = (8, 10, 12)


def ellipsoid(centre, radii, grid=KNEE):
    """Distance from the centre in radii: below 1 is inside."""
    axes = np.meshgrid(*[np.arange(n, dtype=np.float32) for n in grid], indexing="ij", sparse=True)
    return np.sqrt(sum(((x - c) / r) ** 2 for x, c, r in zip(axes, centre, radii, strict=True)))


def made_knee(seed=0):
    """A right knee of a few ellipsoids: dark bone in bright cartilage, in muscle, in air."""
    rng = np.random.default_rng(seed)
    scan = np.full(KNEE, 15.0, np.float32)
    labels = np.zeros(KNEE, np.uint8)
    scan[ellipsoid((40, 96, 96), (38, 120, 80)) < 1] = 110
    condyle = ellipsoid((40, 66, 96), (26, 30, 34))
    plateau = ellipsoid((40, 132, 96), (26, 28, 30))
    for distance, bone, rim, side in ((condyle, 1, 2, 1), (plateau, 3, 4, -1)):
        facing = (np.arange(KNEE[1])[None, :, None] - (66 if side == 1 else 132)) * side > 8
        labels[(distance < 1.1) & (distance >= 1) & facing] = rim
        labels[distance < 1] = bone
    lateral = np.arange(KNEE[0])[:, None, None] >= 40
    labels[(labels == 4) & lateral] = 5
    for label, grey in ((1, 44), (2, 175), (3, 46), (4, 158), (5, 175)):
        scan[labels == label] = grey
    scan += ndimage_bumps(rng)
    noisy = scan + rng.normal(0, 6, KNEE).astype(np.float32)
    return np.clip(noisy, 0, None).astype(np.int16), labels


def ndimage_bumps(rng):
    """Smooth texture that is each knee's own."""
    coarse = rng.normal(0, 12, (10, 16, 16)).astype(np.float32)
    return np.kron(coarse, np.ones((8, 12, 12), np.float32))


def to_ras(values):
    """From the frame to a file whose axes go right, front, up."""
    return np.ascontiguousarray(values[:, ::-1, ::-1].transpose(0, 2, 1))


def write(path, values, *, spacing=SPACING, affine=None, kind=nib.Nifti1Image):
    """Write a volume in the frame as a sound NIfTI file."""
    affine = np.diag([spacing[0], spacing[2], spacing[1], 1.0]) if affine is None else affine
    image = kind(to_ras(values), affine, dtype=values.dtype)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def patched(path, offset, layout, *values):
    """The file with some bytes of its header written over."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<" + layout, content, offset, *values)
    path.write_bytes(content)
    return path


def small_file(path, dtype=np.int16, **about):
    """A sound file of a few voxels, for faults that no voxel is needed for."""
    voxels = np.random.default_rng(0).integers(0, 200, SMALL).astype(dtype)
    return write(path, voxels, **about)


def case_of(image, mask=None, *, case_id="knee_7", side="right", **about):
    """A case of one file or two."""
    row = {"subject": "S7", "split": "train", "kl": 2} | about
    return Case(case_id, row["subject"], side, row["split"], row["kl"], image, mask)


class HangingStore(Store):
    """A store on a disk that does not answer for a while."""

    def prepare(self, case):
        time.sleep(20)

    def load_half(self, case_id):
        time.sleep(3)
        return np.zeros(self.grid, np.float16)


def ended(*words):
    """Exit code of `kellgren`, run in this very process, and its lines on standard error."""
    said, words = io.StringIO(), ["kellgren", *map(str, words)]
    with (
        signals_as_they_were(),
        mock.patch.object(sys, "argv", words),
        redirect_stderr(said),
        redirect_stdout(io.StringIO()),
    ):
        try:
            main()
        except SystemExit as end:
            return end.code, said.getvalue().splitlines()
    raise AssertionError("the command line ends by SystemExit")


@contextmanager
def signals_as_they_were():
    """The command line takes signals over for good; a test does not."""
    before = {name: signal.getsignal(getattr(signal, name)) for name in EXIT_CODES}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def checked(case, folder):
    """As `ended`, of `check --deep` of the case and of a test knee that no error is told of."""
    voxels = np.random.default_rng(1).integers(0, 200, SMALL).astype(np.int16)
    sound = write(Path(folder) / "sound.nii", voxels)
    other = case_of(sound, case_id="sound", subject="S8", split="test", kl=3)
    write_cohort(Path(folder) / "cohort.csv", [case, other])
    return ended("check", "--deep", Path(folder) / "cohort.csv")


def assert_last_line_names(lines, *parts):
    """The last line says what is wrong with which case and file, and how it is mended."""
    assert re.match(r"\d+ errors?, ", lines[-1])
    assert "; first error: " in lines[-1]
    assert ": found " in lines[-1]
    assert "; needed " in lines[-1]
    for part in parts:
        assert part in lines[-1], (part, lines[-1])


def told(case):
    """All that a deep look says of a case, one line a finding."""
    return [str(finding) for finding in look_deep(case, (2, 4, 5)).findings]
