"""The researcher's HTTP client when servers, files, clocks and proxies are not as they should be."""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from agents.researcher import transport
from agents.researcher.library import DAY, Library
from agents.researcher.reference import web
from agents.researcher.transport import Door
from shared_memory.errors import BadInput, Unavailable
from tests.servers.literature import Literature, Sends, busy

HUB = "hf_0123456789abcdefghijklmnopqrstuvwx"


def kept(folder: Path) -> Path:
    (file,) = (path for path in (folder / "library" / "pages").rglob("*") if path.is_file())
    return file


def test_a_download_that_breaks_off_is_asked_for_again_and_no_half_of_it_is_kept(
    served: Literature, library: Library, tmp_path: Path
) -> None:
    served.trouble("/page", Sends("<p>only the beginning</p>", cut=6), times=1)
    assert library.get(f"{served.url}/page").text == "<p>kept</p>"
    served.trouble("/other", Sends("<p>only the beginning</p>", cut=6), times=-1)
    with pytest.raises(Unavailable, match=r"out of reach \(RemoteProtocolError\)"):
        library.get(f"{served.url}/other")
    assert kept(tmp_path).read_bytes().endswith(b"<p>kept</p>")


def test_a_server_that_never_comes_to_an_end_is_given_up(
    served: Literature, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes in time, and there is always another."""
    monkeypatch.setattr(transport, "LONGEST", 0.3)
    served.texts["/drip"] = Sends("x" * 1000, between=0.02)
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"took longer than 0 s for one page; run again later"):
        library.get(f"{served.url}/drip")
    assert time.monotonic() - began < 5
    assert len(served.requests) == 1


def test_a_page_that_is_cut_on_disk_is_fetched_anew(served: Literature, library: Library, tmp_path: Path) -> None:
    library.get(f"{served.url}/page")
    file = kept(tmp_path)
    file.write_bytes(file.read_bytes()[:-4])
    assert library.get(f"{served.url}/page").text == "<p>kept</p>"
    assert len(served.requests) == 2


@pytest.mark.parametrize("packing", ["gzip, gzip", "zstd", "br"])
def test_a_page_packed_otherwise_than_was_asked_for_is_not_unpacked(
    served: Literature, library: Library, packing: str
) -> None:
    """Each makes gigabytes of a few thousand bytes, in one piece and before anybody can count them."""
    packed = gzip.compress(gzip.compress(b"\0" * 50_000_000))
    served.texts["/bomb"] = Sends(packed, headers={"Content-Encoding": packing}, media_type="text/html")
    with pytest.raises(Unavailable, match="packs its page in a way that was not asked for"):
        library.get(f"{served.url}/bomb")
    (request,) = served.requests
    assert request.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("named", "written", "said"),
    [
        ("iso-8859-1", "latin-1", "Genauigkeit ±0,8 für große Modelle"),
        ("windows-1251", "cp1251", "Точность"),
        ("iso-8859-1", "utf-8", "Точность ±0,8"),
    ],
)
def test_text_in_another_encoding_is_read_as_what_it_says(
    served: Literature, library: Library, named: str, written: str, said: str
) -> None:
    served.texts["/page.txt"] = Sends(said.encode(written), media_type=f"text/plain; charset={named}")
    page = f'<html><head><meta charset="utf-8"></head><body><p>{said}</p></body></html>'
    served.texts["/page.html"] = Sends(page.encode(written), media_type=f"text/html; charset={named}")
    assert library.get(f"{served.url}/page.txt").text == said
    assert said in web.read(library, f"{served.url}/page.html")
    served.texts["/odd.txt"] = Sends(b"caf\xe9", media_type="text/plain; charset=klingon")
    assert library.get(f"{served.url}/odd.txt").text == "caf\ufffd"


def test_a_page_from_the_future_is_asked_for_again(
    served: Literature, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = time.time() + 400 * DAY
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: ahead)
        library.get(f"{served.url}/page")
    served.texts["/page"] = Sends("<p>newer</p>", media_type="text/html")
    assert library.get(f"{served.url}/page", fresh_for=DAY).text == "<p>newer</p>"
    assert library.get(f"{served.url}/page", fresh_for=DAY).text == "<p>newer</p>"
    assert len(served.requests) == 2


def test_a_clock_that_was_set_back_keeps_nobody_waiting(served: Literature, tmp_path: Path) -> None:
    library = Library(tmp_path, pauses={"127.0.0.1": 0.1})
    (tmp_path / "pauses").mkdir()
    (tmp_path / "pauses" / "127.0.0.1").write_text(f"{time.time() + DAY:.3f} 0.1")
    began = time.monotonic()
    library.get(f"{served.url}/page")
    assert time.monotonic() - began < 5


def test_a_server_that_asks_for_a_pause_is_left_alone_by_everybody(served: Literature, tmp_path: Path) -> None:
    pauses = {"127.0.0.1": 0.01}
    served.trouble("/busy", busy(1), times=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transport, "RETRIES", 0)
        with pytest.raises(Unavailable, match="asked too often"):
            Library(tmp_path, pauses=pauses).get(f"{served.url}/busy")
    Library(tmp_path, pauses=pauses).get(f"{served.url}/page")
    first, second = served.requests
    assert second.at - first.at >= 0.99


def test_requests_of_several_processes_to_one_host_keep_their_distance(served: Literature, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from agents.researcher.library import Library\n"
        "library = Library(Path(sys.argv[1]), pauses={'127.0.0.1': 0.1})\n"
        "[library.get(sys.argv[2], {'n': f'{sys.argv[3]}{turn}'}) for turn in range(3)]"
    )
    served.texts["/page"] = Sends("slow", after=0.2)  # while it answers one, the others wait
    command = [sys.executable, "-c", code, str(tmp_path), f"{served.url}/page"]
    processes = [subprocess.Popen([*command, name], env=os.environ) for name in "ab"]
    assert [process.wait(60) for process in processes] == [0, 0]
    times = sorted(request.at for request in served.requests)
    assert len(times) == 6
    assert all(later - earlier >= 0.29 for earlier, later in pairwise(times))


def test_where_no_file_can_be_written_nobody_is_asked_and_the_error_is_one_line(
    served: Literature, tmp_path: Path
) -> None:
    (tmp_path / "pauses").write_text("in the way")
    with pytest.raises(Unavailable, match=r"was not asked \(File exists: .*pauses\); mend that and run again") as told:
        Library(tmp_path, pauses={"127.0.0.1": 0.1}).get(f"{served.url}/page")
    assert "\n" not in str(told.value)
    assert not served.requests


def test_a_limit_of_github_is_told_from_a_token_that_is_refused(served: Literature, library: Library) -> None:
    served.trouble("/page", Sends("secondary rate limit", 403, {"Retry-After": "60"}))
    with pytest.raises(Unavailable, match="asked too often for now; run again later"):
        library.get(f"{served.url}/page")


def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(
    served: Literature, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    for token in (f"{HUB}é", f"{HUB}\nHost: elsewhere.example"):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(BadInput, match="HF_TOKEN has a character that no token has; copy it again") as told:
            library.get(f"{served.url}/page")
        assert HUB not in str(told.value)
    assert not served.requests


def test_a_page_of_the_web_is_read_as_nobody(
    served: Literature, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that a page has named may be one that says whose token it is."""
    monkeypatch.setenv("HF_TOKEN", HUB)
    web.read(library, f"{served.url}/page")
    library.get(f"{served.url}/page", {"n": "1"})
    assert [request.headers.get("authorization") for request in served.requests] == [None, f"Bearer {HUB}"]


@pytest.mark.parametrize("proxy", ["socks5h://user:secret@127.0.0.1:1", "gopher://127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used_is_named_by_its_kind_only(
    served: Literature, library: Library, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(Unavailable, match=r"the proxy of the environment cannot be used \((socks5h|gopher)\)") as told:
        library.get("https://ar5iv.labs.arxiv.org/html/2402.03300")
    assert "secret" not in str(told.value)


def test_a_name_is_looked_up_once_and_the_connection_goes_where_it_was_found(
    served: Literature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads elsewhere the second time leads nowhere."""
    asked: list[Any] = []
    really = socket.getaddrinfo

    def look_up(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        asked.append(host)
        return really("127.0.0.1" if host == "rebinds.example" else host, port, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(transport, "is_public", lambda address: address == "127.0.0.1")
    door = Door(tmp_path, {"rebinds.example": 0.0})
    address = served.url.replace("127.0.0.1", "rebinds.example")
    assert door.handle_request(httpx.Request("GET", f"{address}/page")).text == "<p>kept</p>"
    assert [host for host in asked if host not in ("127.0.0.1", b"127.0.0.1")] == ["rebinds.example"]
    assert served.requests[0].headers["host"].startswith("rebinds.example:")
    door.close()
