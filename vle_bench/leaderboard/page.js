"use strict";
(() => {
  const form = document.getElementById("filter"), field = form.querySelector("input[type=search]");
  const boxes = [...form.querySelectorAll("input[type=checkbox]")], shown = form.querySelector("output");
  const tables = [...document.querySelectorAll("table")].map(table => ({
    body: table.tBodies[0],
    heads: [...table.tHead.rows[0].cells],
    rows: [...table.tBodies[0].rows].map(row => ({ row, text: [...row.cells].map(cell => cell.textContent).join("\n").toLowerCase() })),
    count: table.closest("section").querySelector(".count"),
  }));

  // What a cell is sorted by; null where it holds nothing.
  const key = (cell, numbers) => {
    if (numbers) return cell.dataset.order === undefined ? null : Number(cell.dataset.order);
    return cell.classList.contains("none") ? null : cell.lastChild.textContent;
  };

  // Rows that are equal keep the given order, in either direction; rows with nothing there come last.
  const sort = (table, column, direction) => {
    table.heads.forEach((head, i) => {
      if (i === column && direction) head.setAttribute("aria-sort", direction);
      else head.removeAttribute("aria-sort");
    });
    const numbers = "numbers" in table.heads[column].dataset;
    const keyed = table.rows.map(({ row }) => ({ row, key: key(row.cells[column], numbers) }));
    const sign = direction === "ascending" ? 1 : -1;
    if (direction) keyed.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
      return a.key < b.key ? -sign : a.key > b.key ? sign : 0;
    });
    table.body.append(...keyed.map(({ row }) => row));
  };

  // Numbers are sorted from the highest, texts from A; a third press gives the order back that the table came in.
  for (const table of tables) table.heads.forEach((head, column) => {
    const turns = "numbers" in head.dataset ? ["descending", "ascending", null] : ["ascending", "descending", null];
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      sort(table, column, turns[(turns.indexOf(now) + 1) % 3]);
    });
    head.append(button);
  });

  const filter = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const kinds = new Set(boxes.filter(box => box.checked).map(box => box.value));
    let all = 0, left = 0;
    for (const { rows, count } of tables) {
      let here = 0;
      for (const { row, text } of rows) {
        row.hidden = !(kinds.has(row.className) && words.every(word => text.includes(word)));
        here += !row.hidden;
      }
      count.textContent = `${here} of ${rows.length} rows`;
      count.hidden = here === rows.length;
      all += rows.length;
      left += here;
    }
    shown.textContent = `${left} of ${all} rows`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", event => event.preventDefault());
  form.hidden = false;
  filter();  // a browser may have kept what was typed before
})();
