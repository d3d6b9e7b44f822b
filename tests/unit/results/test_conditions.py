"""What a run is measured in, read from a kernel's files; what is not there is unknown."""

from specbench.results.conditions import code_commit, conditions, packages, surroundings


def lay(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


CPU = "sys/devices/system/cpu"


def test_clocks_throttling_and_memory_are_read(tmp_path):
    lay(
        tmp_path,
        {
            f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "2400000\n",
            f"{CPU}/cpu1/cpufreq/scaling_cur_freq": "1200500\n",
            f"{CPU}/cpu10/cpufreq/scaling_cur_freq": "800000\n",
            f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": "3600000\n",
            f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave\n",
            f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "3\n",
            f"{CPU}/cpu1/thermal_throttle/core_throttle_count": "4\n",
            f"{CPU}/intel_pstate/no_turbo": "1\n",
            f"{CPU}/cpu0/cache/index0/level": "1\n",
            f"{CPU}/cpu0/cache/index0/type": "Data\n",
            f"{CPU}/cpu0/cache/index0/size": "48K\n",
            "sys/class/thermal/thermal_zone0/temp": "51000\n",
            "sys/class/thermal/thermal_zone1/temp": "62500\n",
            "sys/fs/cgroup/cpu.stat": "usage_usec 9\nnr_throttled 2\nthrottled_usec 12500\n",
            "proc/stat": "cpu  1 2 3 4 5 6 7 200 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n",
            "proc/loadavg": "1.25 0.5 0.4 2/300 4242\n",
            "proc/meminfo": "MemTotal: 2000 kB\nMemAvailable:    1000 kB\nSwapTotal: 0 kB\n",
            "proc/cpuinfo": "processor: 0\nflags\t\t: fpu sse4_2 avx2 avx512_vnni fma hypervisor\n",
        },
    )
    found = surroundings(tmp_path)
    begun = found.begun
    assert begun.clock_mhz == (2400.0, 1200.5, 800.0)
    assert (begun.most_mhz, begun.governor, begun.boost, begun.throttled) == (3600.0, "powersave", False, 7)
    assert (begun.quota_ms, begun.stolen_ms, begun.temperature_c) == (12.5, 2000.0, 62.5)
    assert (begun.load, begun.available_bytes, found.swap_bytes) == (1.25, 1_024_000, 0)
    assert found.instructions == ("avx2", "avx512_vnni", "fma", "sse4_2")
    assert found.caches == {"L1 Data": "48K"}


def test_a_machine_that_tells_nothing_is_unknown_and_not_zero(tmp_path):
    found = conditions(tmp_path)
    assert (found.clock_mhz, found.throttled, found.quota_ms, found.load, found.boost) == (
        (),
        None,
        None,
        None,
        None,
    )


def test_a_guest_without_frequencies_tells_its_clocks_in_cpuinfo(tmp_path):
    lay(tmp_path, {"proc/cpuinfo": "cpu MHz\t\t: 2595.124\nx: y\ncpu MHz\t\t: 2595.125\n"})
    assert conditions(tmp_path).clock_mhz == (2595.124, 2595.125)


def test_strange_files_are_unknown(tmp_path):
    lay(
        tmp_path,
        {f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "<unknown>\n", "proc/stat": "cpu \n", "proc/loadavg": ""},
    )
    assert conditions(tmp_path).clock_mhz == ()


def test_the_code_has_a_commit_and_packages_their_versions():
    import torch

    assert packages()["torch"] == torch.__version__
    commit = code_commit()
    assert commit is None or len(commit.removesuffix("-dirty")) == 40
