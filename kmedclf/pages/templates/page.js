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

  // A figure as a file; its colours are those of light pages.
  for (const button of document.querySelectorAll(".save")) {
    button.addEventListener("click", () => {
      const drawn = button.closest("figure").querySelector("svg").cloneNode(true);
      drawn.setAttribute("font-family", "sans-serif");
      const link = document.createElement("a");
      const text = new XMLSerializer().serializeToString(drawn);
      link.href = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
      link.download = `${button.dataset.name.replace(/[^\p{L}\p{N}]+/gu, "-")}.svg`;
      link.click();
    });
  }

  const source = document.getElementById("data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const heading = document.getElementById("shown");
  const images = document.getElementById("images");
  const more = document.getElementById("more");
  const dialog = document.getElementById("enlarged");
  const PAGE = 24;
  let listed = data.order;

  const called = (index) => inWords(data.names[index]);
  const labels = (list) => (list.length ? list.map(called).join(", ") : "nothing");
  const named = (number) => data.images[number].f ?? `Image ${number}`;
  const said = (entry) => `${labels(entry.t)} → ${labels(entry.p)}`;

  const probabilities = (entry) => {
    const list = make("ul", undefined, "shares");
    for (const [index, share] of entry.s) {
      const role = [entry.p.includes(index) && "predicted", entry.t.includes(index) && "true"];
      const item = make("li", undefined, role.filter(Boolean).join(" "));
      const name = make("span", called(index));
      name.dir = "auto";
      name.title = data.names[index];
      const bar = make("i");
      bar.style.width = `${100 * share}%`;
      item.append(name, make("span", share.toFixed(3), "share"), bar);
      list.append(item);
    }
    return list;
  };

  const card = (number) => {
    const entry = data.images[number];
    const figure = make("figure", undefined, "image");
    const button = make("button");
    button.type = "button";
    button.dataset.number = number;
    button.append(picture(entry.i, `${named(number)}, to enlarge`));
    button.addEventListener("click", () => enlarge(number));
    const caption = make("figcaption");
    const file = make("div", undefined, "file");
    file.append(make("bdi", named(number)));
    caption.append(file, make("div", said(entry), "said"), probabilities(entry));
    figure.append(button, caption);
    return figure;
  };

  const grow = () => {
    const start = images.childElementCount;
    images.append(...listed.slice(start, start + PAGE).map(card));
    const left = listed.length - images.childElementCount;
    more.hidden = !left;
    more.textContent = `Show ${Math.min(PAGE, left)} more of ${left}`;
  };
  const list = (numbers, title) => {
    listed = numbers;
    heading.textContent = title;
    images.replaceChildren();
    grow();
  };

  let open = 0;
  const view = (title, ...parts) => {
    const figure = make("figure");
    const frame = make("span");
    frame.append(...parts);
    figure.append(frame, make("figcaption", title));
    return figure;
  };
  const enlarge = (number) => {
    const entry = data.images[number];
    const large = entry.l ?? entry.i;
    open = listed.indexOf(number);
    document.getElementById("enlarged-title").textContent = said(entry);
    const views = [view(named(number), picture(large, named(number)))];
    if (entry.g) {
      const under = picture(large, "", "under");
      const over = make("img", undefined, "over");
      over.alt = "Grad-CAM map over the image";
      // The map covers the image alone, not the frame around it
      under.addEventListener("load", () => {
        const [w, h] = [under.naturalWidth, under.naturalHeight];
        const most = Math.max(w, h);
        over.style.width = `${(100 * w) / most}%`;
        over.style.height = `${(100 * h) / most}%`;
        over.style.left = `${(50 * (most - w)) / most}%`;
        over.style.top = `${(50 * (most - h)) / most}%`;
      });
      over.src = `data:image/webp;base64,${entry.g}`;
      views.push(view("Grad-CAM of the prediction", under, over));
    }
    const facts = make("div");
    facts.append(make("strong", "Probabilities"), probabilities(entry));
    document.getElementById("views").replaceChildren(...views, facts);
    if (!dialog.open) dialog.showModal();
  };
  const step = (by) => enlarge(listed[(open + by + listed.length) % listed.length]);
  for (const button of dialog.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => step(Number(button.dataset.step)));
  }
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") step(1);
    if (event.key === "ArrowLeft") step(-1);
  });
  more.addEventListener("click", grow);

  const show = (button) => {
    const pressed = document.querySelector("[data-cell][aria-pressed=true]");
    if (pressed) pressed.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-pressed", "true");
    const [i, j] = button.dataset.cell.split(",");
    const entries = data.cells[button.dataset.cell];
    const all = Number(button.textContent);
    const count = entries.length < all ? `${entries.length} of ${all} images` : `${all} image${all > 1 ? "s" : ""}`;
    const words = { missed: ", missed", alarm: ", false alarms", [i]: ", recognised" }[j] ?? `, taken for ${called(j)}`;
    list(entries, `${count} of ${called(i)}${words}`);
    heading.focus();
  };
  for (const button of document.querySelectorAll("[data-cell]")) {
    button.addEventListener("click", () => show(button));
  }
  const n = data.order.length;
  list(data.order, n ? `${n} ${n > 1 ? "mistakes" : "mistake"}` : "No mistakes");
})();
