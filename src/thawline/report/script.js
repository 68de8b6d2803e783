"use strict";
// A header becomes a button that sorts its table; numbers by what they are, not by how they are written.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  if (body.rows.length < 2) continue;
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const descending = header.getAttribute("aria-sort") === "ascending";
      const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
      const numeric = header.classList.contains("number");
      const compare = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (!numeric) return x.localeCompare(y, undefined, { numeric: true });
        const [p, q] = [parseFloat(x), parseFloat(y)];
        return isNaN(p) ? (isNaN(q) ? 0 : 1) : isNaN(q) ? -1 : p - q;
      };
      const rows = [...body.rows].sort((a, b) => {
        const order = compare(a, b);
        // What has no value stays last either way.
        return descending && !(numeric && (isNaN(parseFloat(key(a))) || isNaN(parseFloat(key(b))))) ? -order : order;
      });
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      body.append(...rows);
    });
  });
}
// What is folded must be on paper too.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((one) => (one.open = true));
});
addEventListener("afterprint", () => opened.forEach((one) => (one.open = false)));
