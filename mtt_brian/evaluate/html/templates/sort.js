"use strict";

// Headings become buttons here, so that without scripts they are plain headings.

/** What a cell sorts by: the exact number that a <data> element holds behind its rounded text, else the text. */
function key(row, column) {
  const cell = row.cells[column];
  return cell.querySelector("data")?.value ?? cell.textContent.trim();
}

/** Numbers by size, other text with its digits taken as numbers: run-2 before run-10. */
function compare(a, b) {
  const difference = Number(a) - Number(b);
  return Number.isNaN(difference) ? a.localeCompare(b, "en", { numeric: true }) : difference;
}

/** Sorts the rows of a table; "-" says that there is nothing, and stays below in either direction. */
function sort(body, column, descending) {
  const [empty, full] = [[], []];
  for (const row of body.rows) {
    (key(row, column) === "-" ? empty : full).push(row);
  }
  full.sort((a, b) => (descending ? -1 : 1) * compare(key(a, column), key(b, column)));
  body.append(...full, ...empty);
}

for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows].at(-1).cells;
  for (const [column, heading] of [...headings].entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      for (const other of headings) {
        other.removeAttribute("aria-sort");
      }
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sort(table.tBodies[0], column, descending);
    });
  }
}

document.querySelector(".hint").hidden = false;
