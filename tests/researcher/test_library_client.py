"""The researcher's one HTTP client: it keeps what it fetched, asks politely, and gives no token away."""

from __future__ import annotations

import gzip
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from agents.researcher import transport
from agents.researcher.addresses import is_public
from agents.researcher.library import Library, NotFound
from shared_memory.errors import BadInput, Unavailable
from tests.servers.literature import Literature, Sends, busy, leads_to

SCHOLAR = "s2-key-0123456789"
HUB = "hf_0123456789abcdefghijklmnopqrstuvwx"


def test_a_kept_page_is_not_asked_for_again_and_is_there_without_a_network(
    served: Literature, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{served.url}/page"
    first = library.get(url, {"q": "x"})
    assert (first.text, first.media_type) == ("<p>kept</p>", "text/html")
    assert library.get(url, {"q": "x"}) == first
    assert len(served.asked("/page")) == 1
    monkeypatch.setenv("POSTGRAD_OFFLINE", "1")
    later = Library(tmp_path / "library")
    assert later.get(url, {"q": "x"}, fresh_for=0.0) == first
    with pytest.raises(Unavailable, match="is not in the library; ask for it once without POSTGRAD_OFFLINE"):
        later.get(url, {"q": "another"})
    assert len(served.requests) == 1


def test_a_stale_page_is_asked_for_again_and_served_all_the_same_when_the_service_is_down(
    served: Literature, library: Library
) -> None:
    url = f"{served.url}/page"
    library.get(url)
    served.texts["/page"] = Sends("<p>newer</p>", media_type="text/html")
    assert library.get(url).text == "<p>kept</p>"
    assert library.get(url, fresh_for=0.0).text == "<p>newer</p>"
    served.trouble("/page", Sends("down", 503), times=-1)
    assert library.get(url, fresh_for=0.0).text == "<p>newer</p>"


def test_a_page_damaged_on_disk_is_fetched_anew(served: Literature, library: Library, tmp_path: Path) -> None:
    library.get(f"{served.url}/page")
    (file,) = (path for path in (tmp_path / "library" / "pages").rglob("*") if path.is_file())
    file.write_bytes(b"{")
    assert library.get(f"{served.url}/page").text == "<p>kept</p>"
    assert len(served.requests) == 2


def test_threads_that_want_one_page_ask_for_it_once(served: Literature, library: Library) -> None:
    served.texts["/page"] = Sends("<p>kept</p>", after=0.1)
    with ThreadPoolExecutor(8) as pool:
        pages = list(pool.map(lambda _: library.get(f"{served.url}/page"), range(8)))
    assert len({page.fetched for page in pages}) == 1
    assert len(served.requests) == 1


def test_a_busy_server_is_asked_again_when_it_says_and_not_before(served: Literature, library: Library) -> None:
    served.trouble("/page", busy(1))
    assert library.get(f"{served.url}/page").text == "<p>kept</p>"
    first, second = served.requests
    assert 1.0 <= second.at - first.at < 3.0


def test_a_server_that_stays_busy_is_asked_four_times_in_all(served: Literature, library: Library) -> None:
    served.trouble("/page", busy(), times=-1)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1 is asked too often for now; run again later"):
        library.get(f"{served.url}/page")
    assert len(served.requests) == 1 + transport.RETRIES


def test_who_is_sent_away_for_long_does_not_wait_and_does_not_ask_again(served: Literature, library: Library) -> None:
    served.trouble("/page", busy(3600))
    with pytest.raises(Unavailable, match="asks to come again in 3600 s; run again then"):
        library.get(f"{served.url}/page")
    assert len(served.requests) == 1


def test_a_failing_server_is_asked_again(served: Literature, library: Library) -> None:
    served.trouble("/page", Sends("oops", 500), times=2)
    assert library.get(f"{served.url}/page").text == "<p>kept</p>"
    assert len(served.requests) == 3


def test_requests_to_one_host_keep_their_distance_over_threads_and_libraries(
    served: Literature, tmp_path: Path
) -> None:
    pauses = {"127.0.0.1": 0.2}
    libraries = [Library(tmp_path / "library", pauses=pauses) for _ in range(2)]
    threads = [
        threading.Thread(target=library.get, args=(f"{served.url}/page", {"n": f"{number}{index}"}))
        for number in range(2)
        for index, library in enumerate(libraries)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = sorted(request.at for request in served.requests)
    assert len(times) == 4
    assert all(later - earlier >= 0.19 for earlier, later in pairwise(times))


def test_arxiv_is_asked_every_three_seconds_over_both_its_addresses() -> None:
    from agents.researcher.addresses import SERVICES

    assert SERVICES["arxiv"].pause == SERVICES["arxiv_api"].pause == 3.0
    assert SERVICES["arxiv_api"].pause_with == "arxiv"


def test_a_token_goes_to_its_own_service_and_does_not_cross_a_redirect(
    served: Literature, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", HUB)
    monkeypatch.setenv("POSTGRAD_AR5IV", served.elsewhere)  # a host that may be asked, and has no token
    served.trouble("/page", leads_to(f"{served.elsewhere}/signed?secret=1"))
    page = library.get(f"{served.url}/page")
    assert page.text == "<p>elsewhere</p>"
    assert page.url == f"{served.elsewhere}/signed"  # the query of another host may be a signature
    assert served.requests[0].headers["authorization"] == f"Bearer {HUB}"
    (request,) = served.led_away
    assert "authorization" not in request.headers
    assert HUB not in str(request.headers)


def test_each_token_goes_to_one_service_only(
    served: Literature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", served.elsewhere)
    monkeypatch.setenv("HF_TOKEN", HUB)
    monkeypatch.setenv("S2_API_KEY", SCHOLAR)
    library = Library(tmp_path / "library")
    library.get(f"{served.url}/page")
    library.get(f"{served.elsewhere}/page")
    assert served.requests[0].headers["x-api-key"] == SCHOLAR
    assert HUB not in str(served.requests[0].headers)
    assert served.led_away[0].headers["authorization"] == f"Bearer {HUB}"
    assert SCHOLAR not in str(served.led_away[0].headers)


def test_no_token_is_on_disk_and_a_kept_page_is_found_whatever_the_token(
    served: Literature, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", HUB)
    library.get(f"{served.url}/page")
    files = [path for path in (tmp_path / "library").rglob("*") if path.is_file()]
    assert files
    assert not any(HUB.encode() in path.read_bytes() or HUB in str(path) for path in files)
    monkeypatch.delenv("HF_TOKEN")
    library.get(f"{served.url}/page")
    assert len(served.requests) == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://example.org/x", "example.org is not among the sources that may be read; add it to `allowed_hosts`"),
        ("http://arxiv.org/abs/1", "arxiv.org is asked over https only"),
        ("https://allowed.example/x", "allowed.example is not among the sources"),
        ("https://docs.allowed.example:8443/x", "asked at port 443 only"),
        ("https://me:secret@arxiv.org/x", "an address with a user name is not asked"),
        ("ftp://arxiv.org/x", "is no web address"),
        ("https://[::1", "is no address"),
        ("file:///etc/passwd", "is no web address"),
        ("https://10.0.0.5/x", "10.0.0.5 is an address of a private network"),
        ("https://[::ffff:169.254.169.254]/latest/meta-data", "is an address of a private network"),
        ("https://localhost/x", "localhost is an address of a private network"),
        ("https://raw.githubusercontent.com/lab/a/main/../../other/b", "goes up in its path"),
        ("https://raw.githubusercontent.com/lab/a/main/%2e%2e/x", "goes up in its path"),
    ],
)
def test_an_address_that_may_not_be_asked_is_refused(tmp_path: Path, url: str, reason: str) -> None:
    allowed = ["*.allowed.example", "https://10.0.0.5/", "localhost", "::ffff:a9fe:a9fe", "::ffff:169.254.169.254"]
    with pytest.raises(BadInput) as raised:
        Library(tmp_path, allowed=allowed).get(url)
    assert reason in str(raised.value)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_redirect_to_an_address_that_may_not_be_asked_is_not_followed(served: Literature, tmp_path: Path) -> None:
    library = Library(tmp_path, allowed=["localhost"])
    for target in (f"{served.elsewhere}/x", "https://example.org/x", "https://localhost/admin", "file:///etc/passwd"):
        served.trouble("/page", leads_to(target))
        with pytest.raises(BadInput):
            library.get(f"{served.url}/page")
    assert not served.led_away
    assert not (tmp_path / "pages").exists()


def test_redirects_without_end_are_given_up(served: Literature, library: Library) -> None:
    served.trouble("/page", leads_to("/page"), times=-1)
    with pytest.raises(Unavailable, match="without end"):
        library.get(f"{served.url}/page")
    assert len(served.requests) == 6


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1",
     "fe80::1%eth0", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1", "::127.0.0.1",
     "64:ff9b:1::a00:1"],
)  # fmt: skip
def test_no_private_address_passes_for_a_public_one(address: str) -> None:
    assert not is_public(address)
    assert is_public("151.101.3.42")
    assert is_public("2a04:4e42::42")


def test_behind_a_proxy_the_proxy_is_asked(served: Literature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", served.elsewhere)
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_0123456789")
    monkeypatch.setenv("POSTGRAD_GITHUB_API", "https://192.0.2.7")  # named by the environment; nobody answers there
    with pytest.raises(Unavailable, match="is out of reach"):
        Library(tmp_path).get("https://192.0.2.7/x")
    (request,) = served.led_away
    assert request.line == "CONNECT 192.0.2.7:443"
    assert "ghp_" not in str(request.headers)


def test_a_page_that_is_too_long_is_not_read(
    served: Literature, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "LARGEST", 1_000_000)
    served.texts["/page"] = Sends(b"x" * 1_000_001)
    with pytest.raises(Unavailable, match="is longer than 1 MB and is not read"):
        library.get(f"{served.url}/page")
    assert len(served.requests) == 1


def test_a_packed_page_is_kept_unpacked_and_counted_unpacked(
    served: Literature, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = Sends(gzip.compress(b"x" * 100_000), headers={"Content-Encoding": "gzip"}, media_type="text/plain")
    served.texts |= {"/page": packed, "/bomb": packed}
    assert library.get(f"{served.url}/page").content == library.get(f"{served.url}/page").content == b"x" * 100_000
    monkeypatch.setattr(transport, "LARGEST", 99_999)
    with pytest.raises(Unavailable, match="and is not read"):
        library.get(f"{served.url}/bomb")


def test_a_slow_server_is_an_error_of_one_line(
    served: Literature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "TIMEOUT", 0.05)
    monkeypatch.setattr(transport, "RETRIES", 1)
    served.trouble("/page", Sends("late", after=0.3), times=-1)
    with pytest.raises(Unavailable, match=r"out of reach \(ReadTimeout\); run again"):
        Library(tmp_path, backoff=0.01).get(f"{served.url}/page")
    time.sleep(0.3)  # until the server is done with both
    assert len(served.requests) == 2


def test_what_is_not_there_is_told_from_what_is_out_of_reach(served: Literature, library: Library) -> None:
    with pytest.raises(NotFound, match="/nowhere is not there; check the name"):
        library.get(f"{served.url}/nowhere")
    served.trouble("/page", Sends("no", 403, {"x-ratelimit-remaining": "0"}))
    with pytest.raises(Unavailable, match="asked too often"):
        library.get(f"{served.url}/page")
    served.trouble("/page", Sends("no", 401))
    with pytest.raises(BadInput, match="check the token"):
        library.get(f"{served.url}/page")
    served.texts["/page"] = Sends("not json")
    with pytest.raises(Unavailable, match="no JSON"):
        library.get(f"{served.url}/page").json()
