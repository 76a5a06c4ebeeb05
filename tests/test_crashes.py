"""A disk that fails and a process that is killed: the second start ends as if nothing had been.

benchmarks/crashes.py does every call of every step, benchmarks/kills.py kills at random.
"""

from pathlib import Path

import pytest

from tests.disk import FAILURES, STEPS, Snapshots, contents, torn

FULL, FSYNC, RENAME, TORN, KILLED = FAILURES


@pytest.fixture(scope="module")
def taken(go, tmp_path_factory):
    return Snapshots.take(go, tmp_path_factory.mktemp("study"), STEPS)


@pytest.mark.parametrize(
    ("step", "failure", "share"),
    [
        ("prepare", RENAME, 0.9),
        ("prepare", FULL, 0.0),
        ("prepare", FULL, 0.7),
        ("prepare", FSYNC, 0.5),
        ("prepare", TORN, 0.5),
        ("train", FULL, 0.8),  # its last row of the log was lost
        ("predict", KILLED, 0.6),
        ("explain", TORN, 0.7),
        ("analyze", FULL, 0.5),
    ],
)
def test_a_step_that_fails_at_a_call_ends_with_the_same_bits_when_started_again(
    step, failure, share, taken
):
    """R01, R03, R04 (fsync), R21: the study's folder has blanks and letters beyond ASCII."""
    n = 1 + int(share * (taken.calls(step, failure) - 1))
    failed = taken.fail(step, failure, n)
    assert failed.code == (-9 if failure in (TORN, KILLED) else 2)
    if failed.code == 2:
        assert failed.said.startswith("error: ")
        assert "cannot be written" in failed.said
    assert failed.torn == []
    assert failed.unequal == []


def test_the_corpus_of_failures_can_fail(taken, tmp_path):
    """A file that is written in place is torn by the kill that `completed` survives."""
    whole = next((taken.folder / "end").rglob("weights.safetensors"))
    (tmp_path / "weights.safetensors").write_bytes(whole.read_bytes()[:-9])
    (tmp_path / "a.csv").write_text("a,b\n1")
    assert len(torn(tmp_path)) == 2


@pytest.mark.parametrize("step", STEPS)
def test_nothing_gets_its_name_before_it_is_on_the_disk(step, taken):
    """R20: without power whatever was not synchronised is gone, so that must hide no half file."""
    unsafe: set[str] = set()  # written and not yet synchronised
    unsaid: set[str] = set()  # folders whose entries are not synchronised
    for call in taken.journal(step):
        if call.name == "write":
            assert Path(call.path).name.startswith((".unfinished-", ".lock")), call
            unsafe.add(call.path)
        elif call.name == "fsync":
            unsafe.discard(call.path)
            unsaid.discard(call.path)
        elif call.name == "rename" and ".unfinished-" in call.path:
            assert call.path not in unsafe, call
            unsaid.add(str(Path(call.to).parent))
    assert not unsaid


def test_a_run_that_is_killed_anywhere_ends_with_the_same_bits(go, tmp_path):
    work = "train:nnmamba:0"
    whole = go.start(work, tmp_path / "straight")
    for share in (0.3, 0.3):  # the first start of all takes longer than its like
        killed = go.start(work, tmp_path / "killed", kill_after=share * whole.seconds)
        assert killed.code == -9
        assert torn(tmp_path / "killed") == []
    assert go.start(work, tmp_path / "killed").code == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "straight")
