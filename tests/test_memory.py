"""Memory: what was held at most, and what control groups leave."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from thawline.memory import PeakMemory, anonymous_bytes, available_bytes

MB = 10**6


WATCHED = """
import sys, time
import numpy as np
from thawline.memory import PeakMemory, anonymous_bytes
with PeakMemory(interval=0.01) as memory:
    before = memory.peak_mb
    {what}
    time.sleep(0.1)
    inside = memory.peak_mb
print(inside - before, memory.peak_mb - inside, memory.peak_mb - anonymous_bytes() / 1e6)
"""


def watched(what: str) -> list[float]:
    """Return by how much the peak grew inside, by how much after, and how far it lies above the end.

    In a new process: one that has run other tests gives memory back meanwhile, and its peak does not grow.
    """
    command = [sys.executable, "-c", WATCHED.format(what=what)]
    return [float(number) for number in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


def test_peak_sees_what_was_let_go_before_the_end() -> None:
    inside, after, above = watched("held = np.ones(100 * 10**6 // 8); time.sleep(0.1); del held")
    assert 90 < inside < 200
    assert after >= 0
    assert above > 50


def test_pages_of_mapped_files_are_not_counted(tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux tells the two apart")
    np.save(tmp_path / "numbers.npy", np.ones(50 * MB // 8))
    inside, _, _ = watched(f"np.load({str(tmp_path / 'numbers.npy')!r}, mmap_mode='r').sum()")
    assert inside < 25


def test_the_thread_ends_with_the_context_even_on_an_error() -> None:
    memory = PeakMemory(interval=0.01)
    with pytest.raises(KeyError), memory:
        raise KeyError
    assert not memory._thread.is_alive()


def test_available_is_no_more_than_the_machine_has() -> None:
    assert 0 < available_bytes() <= psutil.virtual_memory().total


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_version_2_takes_the_tightest_group_on_the_way_up(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/slice/job\n",
            "sys/fs/cgroup/slice/memory.max": f"{8 * MB}\n",
            "sys/fs/cgroup/slice/memory.current": f"{6 * MB}\n",
            "sys/fs/cgroup/slice/memory.stat": f"anon 5\ninactive_file {1 * MB}\n",
            "sys/fs/cgroup/slice/job/memory.max": "max\n",
            "sys/fs/cgroup/slice/job/memory.current": f"{6 * MB}\n",
        },
    )
    assert available_bytes(root) == 3 * MB


def test_version_1_counts_and_a_path_of_the_host_does_not_hide_the_limit(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/\n3:memory:/docker/abc\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{8 * MB}",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{7 * MB}",
            "sys/fs/cgroup/memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {2 * MB}\n",
        },
    )
    assert available_bytes(root) == 3 * MB


def test_a_group_above_its_limit_leaves_nothing(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "5", "sys/fs/cgroup/memory.current": "9"}
    assert available_bytes(write(tmp_path, files)) == 0


def test_without_groups_the_machine_decides(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_another_process_is_watched_to_its_end() -> None:
    script = "import numpy, time; held = numpy.ones(100 * 10**6 // 8); time.sleep(0.3)"
    with subprocess.Popen([sys.executable, "-c", script]) as process, PeakMemory(0.01, process.pid) as memory:
        process.wait()
    assert 95 < memory.peak_mb < 250
    assert anonymous_bytes(process.pid) == 0
