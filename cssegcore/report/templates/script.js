"use strict";
/* Sorts tables by a column, and shows the photographs' predictions of one step at a time.
   Without it everything is there: tables in their order, predictions side by side. */
(() => {
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    const text = cell.textContent.trim();
    if (text === "" || text === "–" || cell.classList.contains("none")) return null;
    const number = Number(text.replace("−", "-"));
    return Number.isNaN(number) ? text : number;
  };

  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number"
      ? a - b
      : String(a).localeCompare(String(b), undefined, { numeric: true });

  const sort = (table, header) => {
    const column = header.cellIndex;
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [valueOf(row, column), row]);
    const known = rows.filter(([value]) => value !== null);
    const before = header.getAttribute("aria-sort");
    const numbers = known.some(([value]) => typeof value === "number");
    const falling = before ? before === "ascending" : numbers;
    known.sort(([a], [b]) => (falling ? compare(b, a) : compare(a, b)));
    body.append(...known.map(([, row]) => row));
    body.append(...rows.filter(([value]) => value === null).map(([, row]) => row));
    table.classList.add("sorted");
    for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", falling ? "descending" : "ascending");
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const header of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sort(table, header));
      header.append(button);
    }
  }

  const slider = document.getElementById("step-shown");
  if (slider) {
    const place = document.querySelector(".photographs");
    const show = () => {
      for (const figure of place.querySelectorAll(".prediction")) {
        figure.classList.toggle("shown", figure.dataset.step === slider.value);
      }
      const name = place.querySelector(".shown figcaption").textContent;
      slider.parentNode.querySelector("output").textContent = name;
      slider.setAttribute("aria-valuetext", name);
    };
    slider.parentNode.hidden = false;
    place.classList.add("sliding");
    slider.addEventListener("input", show);
    show();
  }

  const folded = [];
  addEventListener("beforeprint", () => {
    folded.push(...document.querySelectorAll("details:not([open])"));
    for (const details of folded) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of folded.splice(0)) details.open = false;
  });
})();
