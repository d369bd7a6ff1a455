from __future__ import annotations

from pathlib import Path

from agents.jobs.hardware import GIB, calculates_in_bf16, cpu_limit, local_hardware, memory_limit, read_gpus, visible


def group(folder: Path, **limits: str) -> None:
    folder.mkdir(parents=True)
    for name, text in limits.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def test_this_machine_has_cores_and_memory() -> None:
    hardware = local_hardware()
    assert hardware.cpu_cores >= 1
    assert hardware.ram_gib > 0.1
    assert hardware.flavor == ("gpu" if hardware.gpus else "cpu")


def test_the_tightest_limit_on_the_way_to_the_root_counts(tmp_path: Path) -> None:
    group(tmp_path / "slice", memory__max=str(4 * GIB), cpu__max="150000 100000")
    group(tmp_path / "slice/job", memory__max="max", cpu__max="max 100000")
    assert memory_limit(8 * GIB, "0::/slice/job\n", tmp_path) == 4 * GIB
    assert cpu_limit(8, "0::/slice/job\n", tmp_path) == 1


def test_limits_of_cgroup_v1_count_also_where_its_path_lies_outside_of_the_container(tmp_path: Path) -> None:
    group(tmp_path / "memory", memory__limit_in_bytes=str(2 * GIB))
    group(tmp_path / "cpu", cpu__cfs_quota_us="300000", cpu__cfs_period_us="100000")
    membership = "9:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n0::/\n"
    assert memory_limit(8 * GIB, membership, tmp_path) == 2 * GIB
    assert cpu_limit(8, membership, tmp_path) == 3


def test_without_limits_everything_installed_counts(tmp_path: Path) -> None:
    assert memory_limit(8 * GIB, "", tmp_path) == 8 * GIB
    assert cpu_limit(8, "0::/\n", tmp_path) == 8


def test_gpus_are_read_from_nvidia_smi_and_filtered_as_cuda_does() -> None:
    gpus = read_gpus("0, GPU-aa11, NVIDIA H200, 143771\n1, GPU-bb22, NVIDIA GB10, [N/A]\n")
    assert [(gpu.name, gpu.memory_gib) for gpu in gpus] == [("NVIDIA H200", 140.4), ("NVIDIA GB10", 0.0)]
    assert visible(gpus, None) == gpus
    assert visible(gpus, "1") == gpus[1:]
    assert visible(gpus, "GPU-aa") == gpus[:1]
    assert visible(gpus, "") == visible(gpus, "-1") == []


def test_a_processor_says_whether_it_calculates_in_bfloat16() -> None:
    assert calculates_in_bf16("processor : 0\nflags : fpu avx2 avx512_bf16\n")
    assert calculates_in_bf16("flags\t\t: fpu amx_tile\n")
    assert not calculates_in_bf16("flags : fpu avx2\n")
    assert not calculates_in_bf16("")
