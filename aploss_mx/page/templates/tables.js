"use strict";

// Sort a table by the column whose head is clicked: first down, then up; empty cells and totals stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") !== "descending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => {
      const cell = row.cells[column];
      return cell.dataset.value === undefined ? cell.textContent : cell.dataset.value === "" ? null : +cell.dataset.value;
    };
    const compare = (one, other) => {
      const [a, b] = [key(one), key(other)];
      if (a === null || b === null) return (a === null) - (b === null);
      return (down ? -1 : 1) * (typeof a === "number" ? a - b : a.localeCompare(b));
    };
    const rows = [...table.tBodies[0].rows];
    table.tBodies[0].append(
      ...rows.filter((row) => row.className !== "total").sort(compare), ...rows.filter((row) => row.className === "total"));
  }));
}
