"""The report, opened in headless Chromium: plotly must really draw, without a complaint and without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from report_runs import make_run

from nassearch.reports import write_report
from nassearch.runs import Run

pytestmark = pytest.mark.slow

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-dev-shm-usage", "--enable-logging=stderr", "--virtual-time-budget=15000",
)  # fmt: skip


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        reason = "no Chromium: install the package chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def browse(chromium: str, page: Path, profile: Path, *flags: str) -> str:
    """Open a page, return what the browser wrote to standard output, and fail where the page complained."""
    done = subprocess.run(
        [chromium, *FLAGS, f"--user-data-dir={profile}", *flags, page.absolute().as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert complaints == []
    return done.stdout


def big_run(folder: Path) -> Run:
    return make_run(folder, n=150, constraints=["latency_ms <= 2.2", "top1 >= 74"], failed={7, 55})


def test_plotly_draws_every_figure(tmp_path: Path, chromium: str) -> None:
    run = big_run(tmp_path / "r")
    dom = browse(chromium, write_report(run), tmp_path / "profile", "--dump-dom", "--window-size=1280,1000")
    drawn = re.split(r'<div id="figure-\d+"', dom)[1:]
    assert len(drawn) == 5  # front, hypervolume, genes, two of predictions
    assert all('class="main-svg"' in d and "js-plotly-plot" in d for d in drawn)
    ok = [r for r in run.records if r.status == "ok"]
    # Points: each evaluation once, each front member's second look, and one sample for each legend entry.
    legend = drawn[0].count('class="traces"')
    assert legend == 5
    assert drawn[0].count('class="point"') == len(ok) + len(run.front)
    predicted = [r for r in ok if r.predicted]
    assert [d.count('class="point"') for d in drawn[3:]] == [len(predicted)] * 2
    assert "knee: #" in drawn[0]
    assert "latency_ms &lt;= 2.2" in drawn[0]
    assert 'data-title="Download plot as a PNG"' in dom
    assert 'data-title="Share chart' not in dom  # plotly's button that uploads the figure


def test_the_page_is_not_blank_on_wide_and_narrow_screens(tmp_path: Path, chromium: str) -> None:
    report = write_report(big_run(tmp_path / "r"))
    frame = tmp_path / "phone.html"  # Chromium's windows cannot be as narrow as a phone; a frame can
    frame.write_text(
        f'<body style="margin:0"><iframe src="{report.as_uri()}" style="width:390px;height:1600px;border:0"></iframe>',
        encoding="utf-8",
    )
    for page, width in ((report, 1280), (frame, 390)):
        picture = tmp_path / f"{width}.png"
        size = f"--window-size={max(width, 600)},1600"
        browse(chromium, page, tmp_path / f"profile-{width}", f"--screenshot={picture}", size)
        with Image.open(picture) as image:
            rows = image.convert("RGB").crop((0, 0, width, 1600))
        counts = {colour: n for n, colour in rows.getcolors(1 << 24)}
        assert max(counts.values()) < 0.97 * width * 1600
        for name, colour in (("front", (0xD5, 0x5E, 0x00)), ("infeasible", (0x8C, 0x8C, 0x8C))):
            assert counts.get(colour, 0) > 20, f"no {name} point at width {width}"


def test_a_report_without_a_front_is_drawn_too(tmp_path: Path, chromium: str) -> None:
    run = make_run(tmp_path / "r", n=20, constraints=["latency_ms <= 0.1"])
    dom = browse(chromium, write_report(run), tmp_path / "profile", "--dump-dom")
    assert 'class="main-svg"' in dom
    nothing = make_run(tmp_path / "none", n=0)
    assert "No evaluation has finished yet." in browse(
        chromium, write_report(nothing), tmp_path / "profile-2", "--dump-dom"
    )


def test_tables_sort_by_the_column_that_is_clicked(tmp_path: Path, chromium: str) -> None:
    run = big_run(tmp_path / "r")
    page = write_report(run)
    click = "<script>document.querySelector('table.sortable th').click();</script></body>"
    clicked = tmp_path / "clicked.html"
    clicked.write_text(page.read_text(encoding="utf-8").replace("</body>", click), encoding="utf-8")
    dom = browse(chromium, clicked, tmp_path / "profile", "--dump-dom")
    body = dom[dom.index('<table class="sortable">') :].partition("</table>")[0]
    shown = [int(i) for i in re.findall(r"<tr><td[^>]*>#(\d+)<", body)]
    assert shown == sorted(r.id for r in run.front)
