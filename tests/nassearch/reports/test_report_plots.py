from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_hex
from PIL import Image
from report_runs import make_run

from nassearch.errors import ConfigError
from nassearch.reports import plot_front
from nassearch.reports.plots import draw
from nassearch.reports.view import STYLES, make_view

CASES: dict[str, dict[str, Any]] = {
    "constrained": {"constraints": ["latency_ms <= 2", "top1 >= 75"], "failed": {7, 12}},
    "one objective": {"objectives": ["top1:max"]},
    "three objectives": {"objectives": ["top1:max", "latency_ms:min", "params_m:min"]},
    "four objectives": {"objectives": ["top1:max", "latency_ms:min", "params_m:min", "latency_ms@gpu:min"]},
    "empty front": {"constraints": ["latency_ms <= 0.01"]},
    "one evaluation": {"n": 1},
    "only failures": {"n": 10, "failed": set(range(1, 11))},
    "no evaluation": {"n": 0},
    "dollars": {"task": "npz:/data/$x_{1$.npz", "n": 10},
}


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_run_gives_an_image(tmp_path: Path, case: str) -> None:
    run = make_run(tmp_path / "r", **CASES[case])
    path = plot_front(run, tmp_path / "front.png")
    with Image.open(path) as image:
        assert image.size == (1260, 840)
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50  # more than an empty sheet
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["front.png"]  # nothing half-written beside it


@pytest.mark.parametrize(("suffix", "start"), [(".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")])
def test_the_suffix_decides_the_format(tmp_path: Path, suffix: str, start: bytes) -> None:
    path = plot_front(make_run(tmp_path / "r", n=20), str(tmp_path / f"p{suffix}"))
    assert path.read_bytes().startswith(start)


def test_bad_targets_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", n=10)
    with pytest.raises(ConfigError, match=r"'\.gif'; end it in \.png, \.svg, \.pdf"):
        plot_front(run, tmp_path / "a.gif")
    with pytest.raises(ConfigError, match="does not exist"):
        plot_front(run, tmp_path / "nowhere" / "a.png")
    with pytest.raises(ConfigError, match=r"'top9'.*top1"):
        plot_front(run, tmp_path / "a.png", y="top9")
    assert not list(tmp_path.glob("*.png"))


def test_groups_differ_in_colour_and_in_marker() -> None:
    assert len({s.colour for s in STYLES.values()}) == len(STYLES)
    assert len({s.marker for s in STYLES.values()}) == len(STYLES)
    assert len({s.symbol for s in STYLES.values()}) == len(STYLES)


def test_the_plot_shows_every_point_where_it_belongs(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", constraints=["latency_ms <= 2", "params_m <= 0.6"], failed={3})
    view = make_view(run)
    axes = draw(run, view).axes[0]
    drawn = {c.get_label(): c for c in axes.collections}
    for group in view.groups:
        points = drawn[group.label].get_offsets().tolist()
        assert points == [
            [pytest.approx(r.values["latency_ms"]), pytest.approx(r.values["top1"])] for r in group.records
        ]
        if group.kind == "front":
            assert to_hex(drawn[group.label].get_facecolor()[0]) == STYLES["front"].colour.lower()
    texts = [t.get_text() for t in axes.texts]
    assert "latency_ms <= 2" in texts
    assert any("Also required: params_m <= 0.6. 1 failed evaluation is not drawn." in t for t in texts)
    assert f"knee: #{run.select('knee').id}" in texts
    assert axes.get_xlabel() == "latency_ms [ms], lower is better"
    assert axes.get_ylabel() == "top1 [%], higher is better"


def test_the_legend_and_all_texts_are_inside_the_image(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", constraints=["latency_ms <= 2", "top1 >= 75"], failed={3})
    figure = draw(run, make_view(run))
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    (legend,) = figure.legends
    plot = figure.axes[0].get_window_extent()
    box = legend.get_window_extent()
    assert not plot.overlaps(box)
    for artist in [legend, figure.axes[0]._left_title, *figure.axes[0].texts]:
        extent = artist.get_window_extent()
        assert 0 <= extent.x0 < extent.x1 <= width
        assert 0 <= extent.y0 < extent.y1 <= height


def test_drawing_touches_no_global_state(tmp_path: Path) -> None:
    plot_front(make_run(tmp_path / "r", n=10), tmp_path / "a.png")
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []
