"""Memory and cores: limits of control groups in trees as kernels show them, and the places that ask for them."""

import re
from pathlib import Path

import pytest

from mtt_brian import control_groups, machine

PACKAGE = Path(machine.__file__).parent
UNLIMITED_V1 = 9223372036854771712
GIB = 2**30


def tree(root, cgroup, mounts, files):
    """A root folder: lines of /proc/self/cgroup, (inside, mounted, kind, options), and files below it."""
    lines = ["22 1 0:20 / /proc rw,relatime - proc proc rw", "broken line"]
    for number, (inside, mounted, kind, options) in enumerate(mounts):
        lines.append(
            f"{30 + number} 25 0:{26 + number} {inside} {mounted} ro,nosuid shared:9 - {kind} {kind} {options}"
        )
    files = {"proc/self/cgroup": "\n".join(cgroup), "proc/self/mountinfo": "\n".join(lines), **files}
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


V2 = [("/", "/sys/fs/cgroup", "cgroup2", "rw,nsdelegate")]


class TestVersion2:
    def test_the_least_of_all_groups_above(self, tmp_path):
        root = tree(
            tmp_path,
            ["0::/user.slice/job.scope/step"],
            V2,
            {
                "sys/fs/cgroup/user.slice/memory.max": 8 * GIB,
                "sys/fs/cgroup/user.slice/memory.current": 7 * GIB,
                "sys/fs/cgroup/user.slice/memory.stat": f"anon {4 * GIB}\ninactive_file {2 * GIB}\nactive_file 5",
                "sys/fs/cgroup/user.slice/job.scope/memory.max": 4 * GIB,
                "sys/fs/cgroup/user.slice/job.scope/memory.current": GIB // 2,
                "sys/fs/cgroup/user.slice/job.scope/step/memory.max": "max",
                "sys/fs/cgroup/user.slice/job.scope/step/memory.current": GIB // 4,
            },
        )
        assert control_groups.memory_left(root) == 3 * GIB  # of user.slice: 8 - (7 - 2)

    def test_its_own_group(self, tmp_path):
        files = {"sys/fs/cgroup/a/memory.max": 1000, "sys/fs/cgroup/a/memory.current": 300}
        assert control_groups.memory_left(tree(tmp_path, ["0::/a"], V2, files)) == 700

    def test_no_limit(self, tmp_path):
        files = {"sys/fs/cgroup/a/memory.max": "max", "sys/fs/cgroup/a/memory.current": 300}
        assert control_groups.memory_left(tree(tmp_path, ["0::/a"], V2, files)) is None
        assert control_groups.cores(tmp_path) is None

    def test_the_limit_above_which_the_kernel_slows_the_group(self, tmp_path):
        files = {"sys/fs/cgroup/a/memory.max": 1000, "sys/fs/cgroup/a/memory.high": 800}
        files["sys/fs/cgroup/a/memory.current"] = 300
        assert control_groups.memory_left(tree(tmp_path, ["0::/a"], V2, files)) == 500

    def test_more_than_the_limit_is_in_use(self, tmp_path):
        files = {"sys/fs/cgroup/a/memory.max": 1000, "sys/fs/cgroup/a/memory.current": 1200}
        assert control_groups.memory_left(tree(tmp_path, ["0::/a"], V2, files)) == 0

    def test_a_group_named_as_outside_of_its_container(self, tmp_path):
        """Only a part of the tree is mounted: the group itself, or another one than the name says."""
        files = {
            "sys/fs/cgroup/memory.max": 1000,
            "sys/fs/cgroup/memory.current": 1,
            "sys/fs/cgroup/cpu.max": "150 100",
        }
        for inside, group in (("/docker/1", "/docker/1"), ("/docker/1", "/elsewhere"), ("/", "/../../other")):
            root = tree(tmp_path, [f"0::{group}"], [(inside, "/sys/fs/cgroup", "cgroup2", "rw")], files)
            assert control_groups.memory_left(root) == 999, (inside, group)
            assert control_groups.cores(root) == 2

    def test_cores(self, tmp_path):
        files = {"sys/fs/cgroup/a/cpu.max": "350000 100000", "sys/fs/cgroup/a/b/cpu.max": "max 100000"}
        assert control_groups.cores(tree(tmp_path, ["0::/a/b"], V2, files)) == 4
        (tmp_path / "sys/fs/cgroup/a/b/cpu.max").write_text("20000 100000\n")
        assert control_groups.cores(tmp_path) == 1

    def test_a_mount_with_a_space(self, tmp_path):
        mounts = [("/", r"/sys/fs/my\040groups", "cgroup2", "rw")]
        files = {"sys/fs/my groups/memory.max": 10, "sys/fs/my groups/memory.current": 4}
        assert control_groups.memory_left(tree(tmp_path, ["0::/"], mounts, files)) == 6


V1 = [
    ("/", "/sys/fs/cgroup/memory", "cgroup", "rw,memory"),
    ("/", "/sys/fs/cgroup/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
    ("/", "/sys/fs/cgroup/unified", "cgroup2", "rw"),
]
OWN_V1 = ["9:name=systemd:/", "4:memory:/job/step", "2:cpu,cpuacct:/job", "0::/"]


class TestVersion1:
    @pytest.fixture
    def root(self, tmp_path):
        memory = "sys/fs/cgroup/memory"
        return tree(
            tmp_path,
            OWN_V1,
            V1,
            {
                f"{memory}/memory.limit_in_bytes": UNLIMITED_V1,
                f"{memory}/memory.usage_in_bytes": 9 * GIB,
                f"{memory}/job/memory.limit_in_bytes": 4 * GIB,
                f"{memory}/job/memory.usage_in_bytes": 3 * GIB,
                f"{memory}/job/memory.use_hierarchy": 1,
                f"{memory}/job/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB}",
                f"{memory}/job/step/memory.limit_in_bytes": 3 * GIB,
                f"{memory}/job/step/memory.usage_in_bytes": GIB // 2,
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": 250000,
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": 100000,
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": -1,
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": 100000,
            },
        )

    def test_the_least_of_all_groups_above(self, root):
        assert control_groups.memory_left(root) == 2 * GIB  # of job: 4 - (3 - 1)
        assert control_groups.cores(root) == 3

    def test_a_group_above_that_does_not_count_those_below(self, root):
        (root / "sys/fs/cgroup/memory/job/memory.use_hierarchy").write_text("0\n")
        assert control_groups.memory_left(root) == 2.5 * GIB  # of step


@pytest.mark.parametrize("cgroup", [[], ["no colons"], ["0::/a"], ["4:memory:/a"]])
def test_without_control_groups(tmp_path, cgroup):
    """Another system than Linux, or one without the mounts."""
    assert control_groups.memory_left(tree(tmp_path, cgroup, [], {})) is None
    assert control_groups.cores(tmp_path / "nowhere") is None


def test_damaged_files(tmp_path):
    files = {"sys/fs/cgroup/a/memory.max": "many", "sys/fs/cgroup/a/cpu.max": "1 0"}
    assert control_groups.memory_left(tree(tmp_path, ["0::/a"], V2, files)) is None
    assert control_groups.cores(tmp_path) is None


def test_the_smaller_one_counts(monkeypatch):
    whole, cores = machine.available_bytes(), machine.cores()
    assert whole > 2**20
    assert cores >= 1
    for found, expected in ((1000, 1000), (2**62, machine._of_machine()), (None, machine._of_machine())):
        monkeypatch.setattr(control_groups, "memory_left", lambda found=found: found)
        assert machine.available_bytes() == pytest.approx(expected, rel=0.2)
    for found, expected in ((1, 1), (10**6, cores), (None, cores)):
        monkeypatch.setattr(control_groups, "cores", lambda found=found: found)
        assert machine.cores() == expected


def test_cores_are_asked_for_in_one_place():
    scripts = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "studies").glob("*.py")]
    asking = {p.name for p in scripts if re.search(r"cpu_count|sched_getaffinity|CPU_COUNT", p.read_text("utf-8"))}
    assert asking == {"machine.py"}
