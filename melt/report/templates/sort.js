"use strict";
// Sorts a table by the column whose heading is pressed: numbers as numbers, missing ones always last.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortRows(table.tBodies[0], column, descending);
    });
  });
}

function keyOf(row, column) {
  const cell = row.cells[column];
  const key = cell.dataset.key ?? cell.textContent;
  if (!cell.classList.contains("num")) return key === "–" ? null : key;
  return key === "" ? null : Number(key);
}

function sortRows(body, column, descending) {
  const collator = new Intl.Collator("en", { numeric: true });
  const keyed = [...body.rows].map((row) => ({ row, key: keyOf(row, column) }));
  keyed.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
    const order = typeof a.key === "number" ? a.key - b.key : collator.compare(a.key, b.key);
    return descending ? -order : order;
  });
  body.append(...keyed.map((entry) => entry.row));
}
