"""One prepared volume for training: the store beside other ways to come by it, and flipped bits.

    pip install --no-deps --target peer monai torchio SimpleITK deprecated humanize einops
    python -W ignore benchmarks/loading.py FOLDER --peer-path peer

Makes two phantom knees of 160 x 384 x 384 in FOLDER. Every way ends with the same volume of
160 x 256 x 256 in memory, which is asserted; each reads from the page cache. CPU seconds of all
threads, the ways by turns. Then one bit of the file that a way reads is flipped, again and again,
and it is counted how often the way says so.
"""

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
import torch
from measure import Times, in_turn, machine
from reading import GRID, knees
from torch import Tensor

from kellgren.cohort import Case
from kellgren.store import Store

FRAME = "RIP"  # to the right, down, to the back
TOLERANCE = 1e-4
HALF = 2.0**-11  # relative; what rounding to float16 may change
# The order of the columns, and what a way does with a file in which one bit is flipped.
OUTCOMES = ("refused", "taken, voxels wrong", "taken, voxels right")

Load = Callable[[int], Tensor]


@dataclass(frozen=True)
class Way:
    """One way to come by a volume.

    Attributes:
        name: For the table.
        load: The volume of knee n, as the training loop gets it.
        afresh: The same in a program that has just started and holds nothing in memory.
        file: What is read, then, of knee n.
    """

    name: str
    load: Load
    afresh: Load
    file: Callable[[int], Path]


def main() -> None:
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("folder", type=Path)
    words.add_argument("--peer-path", type=Path, required=True)
    words.add_argument("--repeats", type=int, default=20)
    words.add_argument("--flips", type=int, default=20)
    asked = words.parse_args()
    sys.path.append(str(asked.peer_path))
    torch.set_num_threads(1)
    # Without masks: the other ways load none.
    cases = [replace(c, segmentation=None) for c in knees(asked.folder, (160, 384, 384))]
    ways = [published(cases), careful(cases), torchio(cases)]
    ways += [*monai(cases, asked.folder), *ours(cases, asked.folder)]
    reference = [ways[0].load(n) for n in range(len(cases))]
    for way in ways:
        check_agreement(way, reference)
    runs = {way.name: by_turns(way.load, len(cases)) for way in ways}
    volume = reference[0].numpy()
    runs |= {"copying 42 MB": volume.copy, "copying 21 MB": volume.astype(np.float16).copy}
    times = in_turn(runs, times=asked.repeats, clock="cpu")
    print_table(ways, times, asked.flips)


def published(cases: Sequence[Case]) -> Way:
    """nibabel, z-score and torch's interpolation at every epoch, as the published code does."""

    def load(n: int) -> Tensor:
        voxels = nibabel.load(cases[n].image).get_fdata()
        voxels = (voxels - voxels.mean()) / voxels.std()
        volume = torch.from_numpy(voxels).float()[None, None]
        d, h, w = GRID
        volume = torch.nn.functional.interpolate(volume, size=(d, w, h), mode="trilinear")
        # The phantom's files lie to the right, to the front, up.
        return volume[0, 0].permute(0, 2, 1).flip(1, 2)

    return Way("as published", load, load, lambda n: cases[n].image)


def careful(cases: Sequence[Case]) -> Way:
    """The same in float32 and in the order in which the voxels lie in memory."""

    def load(n: int) -> Tensor:
        voxels = torch.from_numpy(nibabel.load(cases[n].image).get_fdata(dtype=np.float32).T)
        voxels = (voxels - voxels.mean()) / voxels.std(correction=0)
        d, h, w = GRID
        volume = torch.nn.functional.interpolate(
            voxels[None, None], size=(h, w, d), mode="trilinear"
        )
        return volume[0, 0].permute(2, 0, 1).flip(1, 2)

    return Way("the same, with care", load, load, lambda n: cases[n].image)


def torchio(cases: Sequence[Case]) -> Way:
    """TorchIO, at every epoch."""
    import torchio as tio

    chain = tio.Compose([tio.ToOrientation(FRAME), tio.ZNormalization(), tio.Resize(GRID)])

    def load(n: int) -> Tensor:
        return chain(tio.Subject(scan=tio.ScalarImage(cases[n].image))).scan.data[0]

    return Way("TorchIO", load, load, lambda n: cases[n].image)


def monai(cases: Sequence[Case], folder: Path) -> list[Way]:
    """MONAI's two caches: in files, which are made here unless they stand, and in memory."""
    from monai.data import CacheDataset, PersistentDataset
    from monai.transforms import (
        Compose,
        EnsureChannelFirst,
        LoadImage,
        NormalizeIntensity,
        Orientation,
        Resize,
    )

    chain = Compose(
        [
            LoadImage(reader="NibabelReader"),
            EnsureChannelFirst(),
            Orientation(FRAME),
            NormalizeIntensity(),
            Resize(GRID, mode="trilinear"),
        ]
    )
    paths, cache = [str(case.image) for case in cases], folder / "monai"
    in_files = PersistentDataset(paths, chain, cache)
    in_memory = CacheDataset(paths, chain, progress=False)

    def load(n: int) -> Tensor:
        return in_files[n][0]

    def held(n: int) -> Tensor:
        return in_memory[n].as_tensor()[0]

    def held_afresh(n: int) -> Tensor:
        return CacheDataset(paths[n : n + 1], chain, progress=False)[0].as_tensor()[0]

    def file(n: int) -> Path:
        return cache / f"{in_files.hash_func(paths[n]).decode()}.pt"

    return [
        Way("MONAI PersistentDataset", load, load, file),
        Way("MONAI CacheDataset", held, held_afresh, lambda n: cases[n].image),
    ]


def ours(cases: Sequence[Case], folder: Path) -> list[Way]:
    """The store, widened on the CPU; and as it is stored, for a device that widens it."""
    store = Store(folder / "store", GRID, (2, 4, 5))
    store.prepare_all(cases)

    def load(n: int) -> Tensor:
        return torch.from_numpy(store.load(cases[n].case_id).image)

    def load_half(n: int) -> Tensor:
        return torch.from_numpy(store.load_half(cases[n].case_id))

    def file(n: int) -> Path:
        return store.path(cases[n].case_id)

    return [
        Way("kellgren, float32", load, load, file),
        Way("kellgren, float16", load_half, load_half, file),
    ]


def check_agreement(way: Way, reference: Sequence[Tensor]) -> None:
    """Stop unless the way gives the published volume; the store, as float16 rounds it."""
    for n, expected in enumerate(reference):
        for load in (way.load, way.afresh):
            found = load(n).float()
            rtol = HALF if way.name.startswith("kellgren") else 0.0
            torch.testing.assert_close(found, expected, rtol=rtol, atol=TOLERANCE)
    print(f"{way.name}: within {float((found - expected).abs().max()):.1e} of the published path")


def by_turns(load: Load, n: int) -> Callable[[], Tensor]:
    numbers = itertools.cycle(range(n))
    return lambda: load(next(numbers))


def print_table(ways: Sequence[Way], times: dict[str, Times], flips: int) -> None:
    print(f"\n{machine()}; ms of CPU a volume; {flips} flipped bits\n")
    print(f"| way | ms | file read, MB | {' | '.join(OUTCOMES)} |")
    print("|---|---|---|---|---|---|")
    for way in ways:
        counts = flipped(way, flips)
        cells = [f"{way.file(0).stat().st_size / 1e6:.0f}", *(f"{counts[o]}" for o in OUTCOMES)]
        print(f"| {way.name} | {spread(times[way.name])} | {' | '.join(cells)} |")
    for name in list(times)[len(ways) :]:
        print(f"| {name} | {spread(times[name])} | | | | |")


def spread(times: Times) -> str:
    low, high = 1e3 * np.percentile(times.seconds, (25, 75))
    return f"{1e3 * times.median:.1f} ({low:.1f}-{high:.1f})"


def flipped(way: Way, flips: int) -> Counter[str]:
    """What becomes of so many files, each with one bit flipped."""
    path, sound, outcomes = way.file(0), way.afresh(0), Counter[str]()
    content = path.read_bytes()
    try:
        for bit in np.random.default_rng(0).integers(8 * len(content), size=flips):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << (bit % 8)
            path.write_bytes(damaged)
            outcomes[outcome(way, sound)] += 1
    finally:
        path.write_bytes(content)
    return outcomes


def outcome(way: Way, sound: Tensor) -> str:
    try:
        found = way.afresh(0)
    except Exception:  # whatever the way raises
        return "refused"
    return "taken, voxels right" if torch.equal(found, sound) else "taken, voxels wrong"


if __name__ == "__main__":
    main()
