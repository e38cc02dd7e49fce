"use strict";
(() => {
  // Sorting: empty values stay last in both directions.
  const value = (row, column) => row.cells[column].dataset.value ?? "";
  const compare = (a, b, sign) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const numbers = [Number(a), Number(b)];
    if (numbers.some(Number.isNaN)) return sign * a.localeCompare(b);
    return sign * (numbers[0] - numbers[1]);
  };
  for (const button of document.querySelectorAll(".sort")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const body = button.closest("table").tBodies[0];
      const falls = head.getAttribute("aria-sort") === "ascending";
      for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falls ? "descending" : "ascending");
      const key = (row) => value(row, head.cellIndex);
      const rows = [...body.rows].sort((a, b) => compare(key(a), key(b), falls ? -1 : 1));
      body.append(...rows);
    });
  }

  const source = document.getElementById("data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const heading = document.getElementById("shown");
  const images = document.getElementById("images");

  const make = (tag, text, className) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  };

  const probability = ([index, share], i, j) => {
    const role = index === j ? "predicted" : index === i ? "true" : "";
    const item = make("li", undefined, role);
    const name = make("span", data.names[index]);
    name.dir = "auto";
    name.title = data.names[index];
    const bar = make("i");
    bar.style.width = `${100 * share}%`;
    item.append(name, make("span", share.toFixed(3), "share"), bar);
    return item;
  };

  const card = ([number, picture, shares, file], i, j) => {
    const figure = make("figure", undefined, "image");
    const image = make("img");
    image.src = `data:image/webp;base64,${picture}`;
    image.alt = `Image ${number}`;
    const caption = make("figcaption", `Image ${number}`);
    const list = make("ul");
    list.append(...shares.map((pair) => probability(pair, i, j)));
    if (file !== undefined) {
      const name = make("div", undefined, "file");
      name.append(make("bdi", file));
      caption.append(name);
    }
    caption.append(list);
    figure.append(image, caption);
    return figure;
  };

  const isolate = (text) => `\u2068${text}\u2069`;
  const show = (button) => {
    const pressed = document.querySelector("[data-cell][aria-pressed=true]");
    if (pressed) pressed.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-pressed", "true");
    const [i, j] = button.dataset.cell.split(",").map(Number);
    const entries = data.cells[button.dataset.cell];
    const all = Number(button.textContent);
    const count = entries.length < all ? `${entries.length} of ${all} images` : `${all} image${all > 1 ? "s" : ""}`;
    const [truth, taken] = [isolate(data.names[i]), isolate(data.names[j])];
    heading.textContent = i === j ? `${count} of ${truth}, recognised` : `${count} of ${truth}, taken for ${taken}`;
    heading.hidden = false;
    images.replaceChildren(...entries.map((entry) => card(entry, i, j)));
    heading.focus();
  };
  for (const button of document.querySelectorAll("[data-cell]")) {
    button.addEventListener("click", () => show(button));
  }
})();
