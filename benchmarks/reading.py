"""One full-size knee: CPU and memory to read, check, prepare and load it; and damaged files.

python benchmarks/reading.py FOLDER            # makes one phantom knee of 160 x 384 x 384 there
python benchmarks/reading.py FOLDER --damaged  # 270 damaged files of a small knee, by every reader
"""

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

from kellgren.cohort import Case
from kellgren.faults import InputError
from kellgren.importers import import_oaizib_cm
from kellgren.inspection import look_deep
from kellgren.phantom import write_release
from kellgren.store import Store
from kellgren.volume import read_scan

GRID = (160, 256, 256)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("folder", type=Path)
    words.add_argument("--damaged", action="store_true")
    asked = words.parse_args()
    if asked.damaged:
        compare_readers(knees(asked.folder / "small", (24, 96, 96))[0].image, asked.folder)
    else:
        case = knees(asked.folder, (160, 384, 384))[0]
        measure(case, Store(asked.folder / "prepared", GRID, (2, 4, 5)))


def knees(folder: Path, grid: tuple[int, int, int]) -> tuple[Case, ...]:
    """Two phantom knees, made unless they stand."""
    release = folder / "release"
    if not (release / "subInfo_test.csv").exists():
        write_release(
            release,
            train=1,
            test=1,
            grid=grid,
            seed=0,
            contrast="real",
            agreement=0.8,
        )
    return import_oaizib_cm(release).cases


def measure(case: Case, store: Store) -> None:
    """Print CPU seconds of each step and the peak memory; run it once the knee stands."""
    print(f"before: {peak():.0f} MB")
    check = spent("read, check", lambda: look_deep(case, (2, 4, 5)), times=9)
    prepare = spent("read, prepare, write", lambda: prepared_anew(case, store), times=9)
    print(f"read, checked and prepared in {check + prepare:.2f} s, peak {peak():.0f} MB")
    spent("load as float32, verified", lambda: store.load(case.case_id), times=101)
    half = spent("load as float16, verified", lambda: store.load_half(case.case_id), times=101)
    image = np.empty(2 * int(np.prod(GRID)), np.uint8)
    copy = spent("copying as many bytes", image.copy, times=101)
    print(f"opening, reading and verifying cost {1000 * (half - copy):.1f} ms beyond the copy")


def prepared_anew(case: Case, store: Store) -> None:
    store.path(case.case_id).unlink(missing_ok=True)
    store.prepare(case)


def spent(what: str, action: Callable[[], object], *, times: int) -> float:
    """Print the median and the quartiles of CPU seconds; the median is returned."""
    seconds = []
    for _ in range(times):
        started = time.process_time()
        action()
        seconds.append(time.process_time() - started)
    low, middle, high = (float(s) for s in np.percentile(seconds, (25, 50, 75)))
    print(f"{what}: {1e3 * middle:.1f} ({1e3 * low:.1f}-{1e3 * high:.1f}) ms of CPU")
    return middle


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def compare_readers(sound: Path, folder: Path) -> None:
    """Print how many of 270 damaged files each reader takes without an error."""
    content = sound.read_bytes()
    path = folder / "damaged.nii.gz"
    readers = {"kellgren": kellgren_reads, "nibabel": nibabel_reads, **others()}
    taken = dict.fromkeys(readers, 0)
    for damaged in damage(content):
        path.write_bytes(damaged)
        for name, reads in readers.items():
            taken[name] += reads(path)
    for name, count in taken.items():
        print(f"{name}: {count} of 270 damaged files taken without an error")


def damage(content: bytes) -> list[bytes]:
    """150 flipped bits, 60 cuts, 60 blocks of 4 KiB of zeros."""
    rng, damaged = np.random.default_rng(0), []
    for bit in rng.integers(80, 8 * len(content), 150):
        copy = bytearray(content)
        copy[bit // 8] ^= 1 << (bit % 8)
        damaged.append(bytes(copy))
    damaged += [content[:n] for n in rng.integers(1, len(content), 60)]
    damaged += [
        content[:at] + bytes(4096) + content[at + 4096 :]
        for at in rng.integers(0, len(content) - 4096, 60)
    ]
    return damaged


def kellgren_reads(path: Path) -> bool:
    try:
        read_scan(path)
    except InputError:
        return False
    return True


def nibabel_reads(path: Path) -> bool:
    try:
        nibabel.load(path).get_fdata()
    except Exception:  # of several kinds, by what the damage hit
        return False
    return True


def others() -> dict[str, Callable[[Path], bool]]:
    """Readers that happen to be installed."""
    try:
        import SimpleITK as sitk
    except ModuleNotFoundError:
        return {}

    def reads(path: Path) -> bool:
        try:
            sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        except RuntimeError:
            return False
        return True

    return {"SimpleITK": reads}


if __name__ == "__main__":
    main()
