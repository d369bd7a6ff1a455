"""Hardware and prices: HF's live list through the real client, the dated table without it, and this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.jobs import hardware
from agents.jobs.flavors import Flavor, cheapest, gpu_named, hf_flavors, listed_flavors, local_flavors
from shared_memory.errors import BadInput
from tests.servers.hub import Fails, HubServer, Request, hub, point_client_at
from tests.servers.hub_routes import Answer
from tests.servers.jobs import HARDWARE

PRICES = {
    "cpu-basic": 0.01, "cpu-upgrade": 0.03, "cpu-xl": 1.00, "cpu-performance": 1.90, "t4-small": 0.40,
    "t4-medium": 0.60, "l4x1": 0.80, "l4x4": 3.80, "a10g-small": 1.00, "a10g-large": 1.50, "a10g-largex2": 3.00,
    "a10g-largex4": 5.00, "l40sx1": 1.80, "l40sx4": 8.30, "l40sx8": 23.50, "a100-large": 2.50, "a100x4": 10.00,
    "a100x8": 20.00, "h200": 5.00, "h200x2": 10.00, "h200x4": 20.00, "h200x8": 40.00, "rtx-pro-6000": 2.75,
    "rtx-pro-6000x2": 5.50, "rtx-pro-6000x4": 11.00, "rtx-pro-6000x8": 22.00,
}  # fmt: skip
"""$/h, by the documentation of 2026-08-22."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub() as served:
        point_client_at(served, monkeypatch, tmp_path / "hf")
        yield served


def offer(server: HubServer, listed: Any) -> None:
    """What the Hub answers when it is asked for its hardware."""

    def answer(request: Request) -> Answer | None:
        return Answer(listed) if request.path == "/api/jobs/hardware" else None

    server.services.append(answer)


def hardware_of(name: str, usd: float, unit: str = "minute", **gpu: str) -> dict[str, Any]:
    """As the Hub writes it."""
    cost = round(usd * 1e6 * {"second": 1 / 3600, "minute": 1 / 60, "hour": 1}[unit])
    accelerator = {"type": "gpu", "manufacturer": "Nvidia", **gpu} if gpu else None
    return {
        "name": name, "prettyName": name, "cpu": "12 vCPU", "ram": "46 GB", "accelerator": accelerator,
        "unitCostMicroUSD": cost, "unitCostUSD": cost / 1e6, "unitLabel": unit,
    }  # fmt: skip


def test_the_live_list_is_read_through_the_client(server: HubServer) -> None:
    offer(server, HARDWARE)

    offered = hf_flavors()

    assert (offered.source, offered.note) == ("live", "prices of HF Jobs as of now")
    assert [flavor.name for flavor in offered.flavors] == [one["name"] for one in HARDWARE]
    large = offered.named("a10g-large")
    assert (large.gpu, large.gpus, large.vram_gib, large.cpu_cores) == ("A10G", 1, 22.5, 12)
    assert large.ram_gib == pytest.approx(46e9 / 2**30, abs=0.1)
    with pytest.raises(BadInput, match=r"no flavor `h900`; choose one of cpu-basic"):
        offered.named("h900")


@pytest.mark.parametrize("unit", ["second", "minute", "hour"])
def test_the_price_of_every_flavor_is_within_a_hundredth(server: HubServer, unit: str) -> None:
    # A price per second is whole micro-dollars on the Hub, too coarse for the two that cost cents.
    listed = {name: usd for name, usd in PRICES.items() if unit != "second" or usd > 0.1}
    offer(server, [hardware_of(name, usd, unit) for name, usd in listed.items()])

    offered = hf_flavors()

    assert {flavor.name for flavor in offered.flavors} == set(listed)
    for flavor in offered.flavors:
        assert flavor.usd_per_hour == pytest.approx(listed[flavor.name], rel=0.01), flavor.name


def test_memory_of_several_gpus_is_told_together_and_kept_apart(server: HubServer) -> None:
    offer(
        server,
        [
            hardware_of("l4x4", 3.8, model="L4", quantity="4", vram="96 GB"),
            hardware_of("new", 9.0, model="Z9", quantity="2", vram="400 GB"),
        ],
    )

    four, new = hf_flavors().flavors

    assert (four.gpus, four.vram_gib, four.room_gib) == (4, 22.5, 22.5)
    assert new.vram_gib == pytest.approx(200e9 / 2**30, abs=0.1)


@pytest.mark.parametrize("listed", [[{"name": "x"}], {"error": "moved"}, [hardware_of("x", 1.0) | {"unitLabel": "go"}]])
def test_a_list_that_is_not_understood_gives_way_to_the_dated_table(server: HubServer, listed: Any) -> None:
    offer(server, json.loads(json.dumps(listed)))

    offered = hf_flavors()

    assert offered.source == "table"
    assert "documented on 2026-08-22; the list of HF Jobs has another form" in offered.note


def test_a_hub_that_is_out_of_reach_gives_way_to_the_dated_table(server: HubServer) -> None:
    server.trouble("GET /api/jobs/hardware", Fails(503))

    offered = hf_flavors()

    assert (offered.source, len(offered.flavors)) == ("table", len(PRICES))
    assert "out of reach" in offered.note
    for flavor in offered.flavors:
        assert flavor.usd_per_hour == pytest.approx(PRICES[flavor.name], rel=0.01), flavor.name
    assert listed_flavors().note == "prices of HF Jobs as documented on 2026-08-22"


def test_this_machine_offers_one_of_its_gpus_and_its_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = tuple(hardware.Gpu(index=n, uuid=f"GPU-{n}", name="NVIDIA H100", memory_gib=79.6) for n in range(2))
    machine = hardware.LocalHardware(cpu_cores=8, ram_gib=64, gpus=gpus, cpu_bf16=True)
    monkeypatch.setattr("agents.jobs.flavors.local_hardware", lambda: machine)

    gpu, cpu = local_flavors().flavors

    assert (gpu.name, gpu.gpus, gpu.room_gib, gpu.bf16) == ("gpu", 1, 79.6, True)
    assert (cpu.name, cpu.devices, cpu.room_gib, cpu.bf16) == ("cpu", 1, 64, True)


def test_the_cheapest_flavor_with_room_is_found() -> None:
    flavors = listed_flavors().flavors
    with_gpus = [flavor for flavor in flavors if flavor.gpus]

    assert getattr(cheapest(with_gpus, 20), "name", "") == "l4x1"
    assert getattr(cheapest(with_gpus, 60), "name", "") == "a100-large"
    assert getattr(cheapest(flavors, 100), "name", "") == "cpu-xl"
    assert cheapest(flavors, 900) is None
    silent = Flavor(name="partition")
    assert cheapest([*flavors, silent], 100) != silent
    assert cheapest([*flavors, silent], 900) == silent, "it does not say how much memory it has"


def test_minutes_that_have_begun_are_paid() -> None:
    flavor = Flavor(name="x", usd_micro_per_minute=100)
    assert [flavor.usd_micro(minutes / 60) for minutes in (0, 0.5, 1, 1.01)] == [0, 100, 100, 200]


@pytest.mark.parametrize(
    ("name", "gpu"),
    [("NVIDIA A100-SXM4-80GB", "A100"), ("nvidia_h200", "H200"), ("NVIDIA L40S", "L40S"), ("gb10", ""),
     ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000")],
)  # fmt: skip
def test_gpus_are_known_by_the_names_of_drivers_and_clusters(name: str, gpu: str) -> None:
    assert gpu_named(name) == gpu
    old = Flavor(name="old", gpu="Tesla T4", gpus=1, vram_gib=15)
    assert not old.bf16
