from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_runs import make_run

from nassearch.errors import ConfigError
from nassearch.finish import format_number
from nassearch.reports import write_report
from nassearch.reports.document import render
from nassearch.reports.markup import plain, script_data, tag
from nassearch.runs import MANIFEST_FILE, Run

NASTY = """npz:/data/<script>alert(1)</script>&"'</title>--><b>.npz"""


class Page(HTMLParser):
    """What is in a page: elements by name with their attributes, text, scripts."""

    VOID = ("meta", "br", "link", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text, self.rows, self.scripts = "", [], []  # type: ignore[var-annotated]
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.scripts[-1] += data
            return
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    @property
    def figures(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.scripts[0])
        return found

    @property
    def ids(self) -> set[str]:
        return {a["id"] or "" for _, a in self.elements if "id" in a}


CASES: dict[str, dict[str, Any]] = {
    "constrained": {"constraints": ["latency_ms <= 2", "top1 >= 75"], "failed": {7, 12}},
    "one objective": {"objectives": ["top1:max"]},
    "three objectives": {"objectives": ["top1:max", "latency_ms:min", "params_m:min"]},
    "four objectives": {"objectives": ["top1:max", "latency_ms:min", "params_m:min", "latency_ms@gpu:min"]},
    "empty front": {"constraints": ["latency_ms <= 0.01"]},
    "one evaluation": {"n": 1},
    "only failures": {"n": 10, "failed": set(range(1, 11))},
    "no evaluation": {"n": 0},
    "bare": {"finals": False, "predictions": False, "predictors": False},
}


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_run_gives_a_whole_page(tmp_path: Path, case: str) -> None:
    run = make_run(tmp_path / "r", **CASES[case])
    page = Page(render(run))
    assert {"front", "members", "measurement", "data", "failures", "making", "glossary"} <= page.ids
    assert set(page.figures) <= page.ids
    for figure in page.figures.values():
        for trace in figure["data"]:
            if trace["type"] == "scatter":
                assert len(trace["x"]) == len(trace["y"]) > 0


def test_the_report_lands_in_the_run_folder_with_its_picture(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", n=20)
    before = set(run.folder.iterdir())
    assert write_report(run) == run.folder / "report.html"
    new = {p.name for p in set(run.folder.iterdir()) - before if not p.name.startswith("evaluations.sqlite-")}
    assert new == {"report.html", "front.png"}
    other = write_report(run, tmp_path / "other.html")
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["other.html"]
    assert other.read_text(encoding="utf-8") == (run.folder / "report.html").read_text(encoding="utf-8")


def test_bad_targets_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", n=10)
    with pytest.raises(ConfigError, match=r"end it in \.html"):
        write_report(run, tmp_path / "report.pdf")
    with pytest.raises(ConfigError, match="does not exist"):
        write_report(run, tmp_path / "nowhere" / "report.html")


def test_the_page_refers_to_nothing_outside_itself(tmp_path: Path) -> None:
    page = Page(render(make_run(tmp_path / "r", failed={3})))
    for name, attributes in page.elements:
        assert name not in ("link", "img", "iframe", "object", "embed", "base")
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    own = re.sub(r"<script>.*?</script>", "", render(Run(tmp_path / "r")), flags=re.DOTALL)
    assert "http" not in own.replace("http-equiv", "")
    policy = next(a["content"] for n, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert sum(s.lstrip().startswith("/**\n* plotly.js") for s in page.scripts) == 1
    assert "<!--" not in page.scripts[1]  # would change how the rest of the page is read


def test_strings_of_users_are_text_wherever_they_appear(tmp_path: Path) -> None:
    manifest = {
        "command": f"nassearch run --task '{NASTY}'",
        "task": {"source": NASTY, "classes": [NASTY], "splits": {NASTY: 3}},
        "versions": {NASTY: NASTY},
        "training_method": NASTY,
        "hardware": {"cpu": NASTY},
    }
    run = make_run(tmp_path / "r", task=NASTY, manifest=manifest, failed={2}, error=f"ValueError: {NASTY}")
    text = render(run)
    page = Page(text)
    assert "<script>alert" not in text
    assert len(page.scripts) == 3
    assert not any(name == "b" for name, _ in page.elements)
    assert NASTY in page.text
    assert f"ValueError: {NASTY}" in page.text


def test_script_data_cannot_end_its_element() -> None:
    data = {"a": "</script><!--<script>", "b": [1.5, None, "&amp;"]}
    text = script_data("k", data)
    assert text.count("<") == 2
    assert json.loads(text[text.index(">") + 1 : text.rindex("<")]) == data
    with pytest.raises(ValueError, match="JSON"):
        script_data("k", float("nan"))


def test_the_table_of_the_front_has_the_rounding_of_the_terminal(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r")
    rows = {row[0]: row for row in Page(render(run)).rows}
    for r in run.front:
        row = rows[f"#{r.id}"]
        shown = [r.values["top1"], r.values["latency_ms"], r.remeasured["latency_ms"], r.report["top1"]]
        assert row[1:5] == [format_number(v) for v in shown]
        assert row[5:8] == [format_number(r.values[m]) for m in ("params_m", "macs_m", "size_mb")]
    assert rows["id"][1:5] == ["top1search", "latency_msmeasured", "latency_msagain", "top1report"]


def test_predictions_are_shown_as_such_and_only_beside_what_was_evaluated(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r")
    page = Page(render(run))
    assert "they are never results" in page.text
    assert "50 predictions, Kendall's tau 0." in page.text
    assert ["top1", "auto", "0.812", "0.93", "1.23", "0.654", "60", "0.94", "10"] in page.rows
    assert "predictors" not in Page(render(make_run(tmp_path / "bare", predictions=False, strategy="random"))).figures


def test_failures_are_listed_with_their_error(tmp_path: Path) -> None:
    page = Page(render(make_run(tmp_path / "r", failed={5, 9})))
    assert ["2", "RuntimeError: no memory", "#5, #9"] in page.rows
    assert "No evaluation failed." in Page(render(make_run(tmp_path / "ok"))).text


def test_three_objectives_give_a_plot_of_each_against_the_first(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", objectives=["top1:max", "latency_ms:min", "params_m:min"])
    titles = [f["layout"]["xaxis"]["title"]["text"] for f in Page(render(run)).figures.values()]
    assert titles[:2] == ["latency_ms [ms], lower is better", "params_m [M], lower is better"]


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"task": 3, "versions": [], "latency": null, "hardware": "x"}'])
def test_a_poor_manifest_does_not_break_the_report(tmp_path: Path, manifest: str) -> None:
    run = make_run(tmp_path / "r", n=20)
    (run.folder / MANIFEST_FILE).write_text(manifest, encoding="utf-8")
    assert "digits" in Page(render(Run(run.folder))).text
    (run.folder / MANIFEST_FILE).unlink()
    (run.folder / "predictors" / "quality.json").write_text("{broken", encoding="utf-8")
    assert "digits" in Page(render(Run(run.folder))).text


def test_markup_escapes_content_and_attributes() -> None:
    assert tag("p", "<&", tag("b", ">"), title='"') == '<p title="&quot;">&lt;&amp;<b>&gt;</b></p>'
    assert plain({"a": 1.23456789, "b": None, "c": [True, "x"]}) == "a: 1.23457, c: yes, x"
    assert len(plain(list(range(1000)))) == 300
