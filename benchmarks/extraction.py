"""Features of one full-size knee: time and memory beside a plain call of PyRadiomics; the axes.

python benchmarks/extraction.py FOLDER         # makes one phantom knee of 160 x 384 x 384 there
python benchmarks/extraction.py FOLDER --axes  # what moves with the axes of the array

Not called radiomics.py, which `import radiomics` would then find.
"""

import argparse
import itertools
import logging
import resource
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from reading import knee
from scipy import ndimage

from kellgren.cohort import Case
from kellgren.radiomics.library import CLASSES, LABELS, Recipe, Regions, library
from kellgren.volume import read_mask, read_scan

Way = Callable[[Case], Regions]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("folder", type=Path)
    words.add_argument("--axes", action="store_true")
    asked = words.parse_args()
    case = knee(asked.folder, (160, 384, 384))
    print(" ".join(library().values()))
    if asked.axes:
        turn_and_flip(case, 4)
    else:
        compare(case)


def compare(case: Case) -> None:
    ways: dict[str, Way] = {
        "kellgren": Recipe("published").measure,
        "kellgren, pool mr": Recipe("mr").measure,
        "PyRadiomics on the whole volume": plain,
    }
    found = {name: in_child(name, way, case) for name, way in ways.items()}
    ours, theirs = found["kellgren"], found["PyRadiomics on the whole volume"]
    pairs = np.array(
        [(value, theirs[region][name]) for region in ours for name, value in ours[region].items()]
    )
    largest = np.max(np.abs(pairs[:, 0] - pairs[:, 1]) / np.abs(pairs).max(axis=1).clip(1e-30))
    print(f"{len(pairs)} values, largest relative difference {largest:.1e}")


def plain(case: Case) -> Regions:
    """As in PyRadiomics' own examples: SimpleITK reads, the volume is whole."""
    import SimpleITK as sitk
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    logging.getLogger("radiomics").setLevel(logging.ERROR)
    image, mask = (sitk.ReadImage(str(path)) for path in (case.image, case.segmentation))
    extractor = RadiomicsFeatureExtractor(additionalInfo=False)
    extractor.disableAllFeatures()
    for name in CLASSES:
        extractor.enableFeatureClassByName(name)
    return {
        f"roi_{label}": {n: float(v) for n, v in extractor.execute(image, mask, label).items()}
        for label in LABELS
    }


def in_child(name: str, way: Way, case: Case) -> Regions:
    receiver, sender = get_context("spawn").Pipe(duplex=False)
    child = get_context("spawn").Process(target=_timed, args=(sender, way, case))
    child.start()
    regions, wall, cpu, peak = receiver.recv()
    child.join()
    print(f"{name}: {wall:.1f} s, {cpu:.1f} s of CPU, peak {peak:.0f} MB")
    return regions


def _timed(sender: Connection, way: Way, case: Case) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    regions = way(case)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    sender.send((regions, wall, cpu, peak))


def turn_and_flip(case: Case, label: int) -> None:
    """Print the features of one region that differ over the 48 ways to lay its array."""
    scan, path = read_scan(case.image), case.segmentation
    assert path is not None  # a phantom has one
    labels = read_mask(path, like=scan).labels
    cut = ndimage.find_objects(labels)[label - 1]
    found = []
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            view = tuple(slice(None, None, flip) for flip in flips)
            voxels, region = (
                np.ascontiguousarray(a[view].transpose(order))
                for a in (scan.voxels[cut], labels[cut] == label)
            )
            d, h, w = (scan.spacing_mm[axis] for axis in order)
            found.append(Recipe().features(voxels, region, (d, h, w), "the phantom"))
    values = np.array([list(features.values()) for features in found])
    spread = np.ptp(values, axis=0) / np.abs(values).max(axis=0)
    for place in np.argsort(-spread):
        if spread[place] > 1e-9:
            print(f"{list(found[0])[place]}: {100 * spread[place]:.3g} %")
    print(f"the other features differ by at most {spread[spread <= 1e-9].max():.1e}")


if __name__ == "__main__":
    main()
