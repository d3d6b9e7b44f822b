"""The processor's name, read from a kernel's files."""

from specbench.results.environment import _cpu_name


def lay(root, cpuinfo, board=None):
    (root / "proc/device-tree").mkdir(parents=True)
    (root / "proc/cpuinfo").write_text(cpuinfo)
    if board:
        (root / "proc/device-tree/model").write_text(board)


def test_a_processor_has_the_name_that_linux_gives_it(tmp_path):
    lay(
        tmp_path,
        "processor\t: 0\nmodel\t: 1\nmodel name\t: AMD EPYC: 9R14\n\nprocessor\t: 1\nmodel name\t: other\n",
    )
    assert _cpu_name(tmp_path) == "AMD EPYC: 9R14"


def test_on_arm_the_board_and_the_part_are_named(tmp_path):
    core = "processor\t: {}\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: {}\n\n"
    lay(tmp_path, core.format(0, "0xd0b") + core.format(1, "0xd05"), "Raspberry Pi 5 Model B Rev 1.0\0")
    assert _cpu_name(tmp_path) == "Raspberry Pi 5 Model B Rev 1.0, CPU implementer 0x41, CPU part 0xd0b"


def test_a_server_on_arm_has_no_board(tmp_path):
    lay(tmp_path, "CPU implementer\t: 0x41\nCPU part\t: 0xd40\n")
    assert _cpu_name(tmp_path) == "CPU implementer 0x41, CPU part 0xd40"
