"use strict";
// Draws the figures in the colours of the page's scheme, and makes tables sortable.
(function () {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const narrow = window.matchMedia("(max-width: 36rem)");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function colours() {
    const style = getComputedStyle(document.documentElement);
    const get = (name) => style.getPropertyValue(name).trim();
    return { ink: get("--ink"), faint: get("--faint"), line: get("--line"), page: get("--page") };
  }

  function layoutOf(figure) {
    const c = colours();
    const layout = JSON.parse(JSON.stringify(figure.layout));
    const size = narrow.matches ? 11 : 13;
    layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
    layout.font = { color: c.ink, size: size, family: getComputedStyle(document.body).fontFamily };
    layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: c.faint, activecolor: c.ink };
    if (narrow.matches) layout.margin.t -= 24; // no tool bar there
    layout.autosize = true;
    layout.dragmode = narrow.matches ? false : "zoom";
    layout.hoverlabel = { align: "left", bgcolor: c.page, bordercolor: c.faint, font: { color: c.ink, size: 12, family: layout.font.family } };
    for (const axis of [layout.xaxis, layout.yaxis]) {
      Object.assign(axis, { gridcolor: c.line, linecolor: c.faint, zerolinecolor: c.line, tickcolor: c.faint });
      axis.title.font = { size: size };
    }
    for (const shape of layout.shapes) {
      if (shape.ink) shape.line.color = c.ink;
      delete shape.ink;
    }
    for (const note of layout.annotations) {
      note.font = { color: c.ink, size: note.small ? size - 2 : size };
      note.bgcolor = c.page;
      if (note.boxed) Object.assign(note, { bordercolor: c.faint, borderpad: 3, arrowcolor: c.ink });
      delete note.small;
      delete note.boxed;
    }
    return layout;
  }

  function draw() {
    for (const [id, figure] of Object.entries(figures)) {
      const config = { responsive: true, displaylogo: false,
                       showSendToCloud: false, plotlyServerURL: "", // on by default; a report stays where it is
                       modeBarButtonsToRemove: ["lasso2d", "select2d"],
                       displayModeBar: narrow.matches ? false : "hover",
                       toImageButtonOptions: { filename: "nassearch-" + id, scale: 2 } };
      Plotly.react(id, figure.data, layoutOf(figure), config);
    }
  }

  function sortBy(table, column, head) {
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const key = (row) => {
      const cell = row.cells[column];
      return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
    };
    const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
    const rows = Array.from(table.tBodies[0].rows);
    rows.sort((a, b) => (descending ? -1 : 1) * compare(key(a), key(b)));
    table.tBodies[0].append(...rows);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
      head.tabIndex = 0;
      head.addEventListener("click", () => sortBy(table, column, head));
      head.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          sortBy(table, column, head);
        }
      });
    });
  }

  draw();
  dark.addEventListener("change", draw);
  narrow.addEventListener("change", draw);
})();
