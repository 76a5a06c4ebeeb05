"""One process a folder, on one machine or on several that share a disk.

Whoever works in a folder keeps a marker there, `.lock`, which names machine, boot, process and its
start, and touches it every few seconds. So a marker whose process has ended on this machine is
known to be dead at once; of one that another machine left, a sign of life is awaited for as long as
a lease lasts, by the clock of whoever waits, so that no two clocks are compared. A process that
could not touch its marker for so long, asleep or cut off from the disk, has lost the folder to
whoever asks, and stops.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from kellgren.faults import InputError
from kellgren.files import make_folder, swept, writable

LEASE_S = 60.0
BEAT_S = 2.0
POLL_S = 0.1

Still = Callable[[], None]
_log = logging.getLogger(__name__)


@contextmanager
def alone(folder: Path, *, lease_s: float = LEASE_S, patient: bool = False) -> Iterator[Still]:
    """Work alone in a folder; what a killed process left half-written there is removed first.

    Args:
        folder: Made if absent.
        lease_s: How long a marker without a sign of life is believed; the same for everybody.
        patient: Wait until whoever is at work there has finished, instead of refusing.

    Yields:
        A function that raises InputError once the folder was lost to another process; to be called
        before results are written.

    Raises:
        InputError: If another process is at work there, or the marker cannot be written.
    """
    lease = SoftFileLease(folder / ".lock", lease_duration=lease_s, heartbeat_interval=BEAT_S)
    with writable(folder):
        make_folder(folder)
        _take(lease, folder, patient=patient)
    try:
        swept(list(folder.rglob("*")))
        yield lambda: _check(lease, folder)
    finally:
        lease.release()


def _take(lease: SoftFileLease, folder: Path, *, patient: bool) -> None:
    """Take the marker; where its holder shows that it lives, wait for it or refuse."""
    seen = _touched(lease)
    longest = lease.lease_duration + 2 * BEAT_S
    try:
        lease.acquire(longest, POLL_S, cancel_check=lambda: _touched(lease) not in (None, seen))
    except (Timeout, LeaseSettingsMismatch):
        if not patient:
            raise _busy(lease, folder) from None
        _log.info("%s: waiting until %s has finished", folder, _holder(lease))
        lease.acquire(-1, POLL_S)


def _touched(lease: SoftFileLease) -> tuple[int, int] | None:
    """Changes whenever the holder of the marker shows that it lives; None without a marker."""
    try:
        found = os.stat(lease.lock_file)
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino


def _holder(lease: SoftFileLease) -> str:
    owner = lease.owner
    if owner is None:
        return "another process"
    return f"process {owner.pid} on {owner.hostname.partition('?')[0]}"


def _check(lease: SoftFileLease, folder: Path) -> None:
    lost = lease.compromise
    if lost is not None:
        raise InputError(
            str(folder),
            f"a folder that this process has lost ({lost.reason}): {_holder(lease)} has it now",
            f"a disk that answers within {lease.lease_duration:g} s, and one process a folder",
            "leave it to the other process, or give the same command again when it has ended",
        )


def _busy(lease: SoftFileLease, folder: Path) -> InputError:
    return InputError(
        str(folder),
        f"another process at work in it ({_holder(lease)})",
        "one process a run",
        "wait for the other one, or stop it",
    )
