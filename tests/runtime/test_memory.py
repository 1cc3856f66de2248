import pytest

from cssegcore.core.errors import InputError
from cssegcore.runtime.memory import DEFAULT_PART, MemoryBudget, free_memory

GIB = 2**30


def test_a_budget_is_taken_until_it_is_gone():
    budget = MemoryBudget(10)
    assert [budget.take(count) for count in (4, 7, 6, 1)] == [True, False, True, False]


@pytest.mark.parametrize(("text", "size"), [("2", 2 * GIB), ("0.5", GIB // 2), ("1e-3", 1073741)])
def test_the_environment_names_gibibytes(monkeypatch, text, size):
    monkeypatch.setenv("CSSEGCORE_MEMORY", text)
    budget = MemoryBudget.of_environment()
    assert (budget.size, budget.is_given) == (size, True)


def test_processes_of_a_machine_share_it(monkeypatch):
    monkeypatch.setenv("CSSEGCORE_MEMORY", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert MemoryBudget.of_environment().size == GIB // 2


@pytest.mark.parametrize("text", ["much", "0", "-1", "nan", "inf", "4GiB"])
def test_another_number_is_refused(monkeypatch, text):
    monkeypatch.setenv("CSSEGCORE_MEMORY", text)
    with pytest.raises(InputError, match=f"CSSEGCORE_MEMORY is '{text}': set a number of GiB"):
        MemoryBudget.of_environment()


def test_a_share_of_what_is_free_is_the_default(monkeypatch):
    monkeypatch.delenv("CSSEGCORE_MEMORY", raising=False)
    monkeypatch.setattr("cssegcore.runtime.memory.free_memory", lambda: 160 * GIB)
    budget = MemoryBudget.of_environment()
    assert (budget.size, budget.is_given) == (160 * GIB // DEFAULT_PART, False)


@pytest.fixture
def system(tmp_path):
    """Writes files of a system with 8 GiB free."""

    def write(**files):
        files["proc/meminfo"] = f"MemTotal: 9 kB\nMemAvailable: {8 * 2**20} kB\n"
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return free_memory(tmp_path)

    return write


def group(folder, limit, names=("memory.max", "memory.current", "inactive_file")):
    return {
        f"{folder}/{names[0]}": f"{limit}\n",
        f"{folder}/{names[1]}": f"{2 * GIB}\n",
        f"{folder}/memory.stat": f"anon 7\n{names[2]} {GIB}\nactive_file 5\n",
    }


VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


class TestFree:
    def test_without_limits_it_is_the_system_s(self, system):
        assert system() == 8 * GIB
        assert system(**{"proc/self/cgroup": "0::/\n"}) == 8 * GIB

    def test_a_group_s_limit_counts_without_its_cache(self, system):
        files = group("sys/fs/cgroup/a/b", 4 * GIB)
        assert system(**{"proc/self/cgroup": "0::/a/b\n"}, **files) == 3 * GIB

    def test_so_do_those_above_it(self, system):
        files = group("sys/fs/cgroup/a", 4 * GIB) | group("sys/fs/cgroup/a/b", "max")
        assert system(**{"proc/self/cgroup": "0::/a/b\n"}, **files) == 3 * GIB

    def test_a_container_sees_its_own_at_the_root(self, system):
        files = group("sys/fs/cgroup", 5 * GIB)
        assert system(**{"proc/self/cgroup": "0::/host/path\n"}, **files) == 4 * GIB

    def test_version_1_is_read_as_well(self, system):
        rows = "9:name=systemd:/\n4:cpu,memory:/a\n0::/\n"
        files = group("sys/fs/cgroup/memory/a", 4 * GIB, VERSION_1)
        assert system(**{"proc/self/cgroup": rows}, **files) == 3 * GIB

    def test_more_used_than_allowed_is_none(self, system):
        files = group("sys/fs/cgroup/a", GIB // 2)
        assert system(**{"proc/self/cgroup": "0::/a\n"}, **files) == 0

    def test_another_system_has_some(self, tmp_path):
        assert free_memory(tmp_path) > 0
