"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const answers = document.getElementById("answers");
  const input = document.getElementById("files");
  const drop = document.querySelector(".drop");
  const clear = document.getElementById("clear");
  const SHOWN = 8;

  const bars = (pairs, found) => {
    const list = make("ul", undefined, "bars");
    for (const [name, share] of pairs) {
      const item = make("li", undefined, found.labels.includes(name) ? "predicted" : "");
      const label = make("span", inWords(name));
      label.dir = "auto";
      label.title = name;
      const bar = make("i");
      bar.style.width = `${100 * share}%`;
      const track = make("b");
      track.append(bar);
      item.append(label, make("span", share.toFixed(3), "share"), track);
      list.append(item);
    }
    return list;
  };

  const verdict = (found) => {
    if (data.multilabel) {
      const labels = found.labels.map(called).join(", ") || "None of the labels";
      return [labels, found.abstained ? "Unsure: some labels are too close to even odds." : ""];
    }
    const share = found.probability.toFixed(3);
    if (!found.abstained) return [inWords(found.label), `Probability ${share}.`];
    const best = inWords(found.explained);
    return ["Unsure", `The most probable class, ${best}, has ${share}, below ${data.threshold.toFixed(3)}.`];
  };

  const view = (title, ...parts) => {
    const figure = make("figure");
    const frame = make("span", undefined, "frame-of-view");
    frame.append(...parts);
    figure.append(frame, make("figcaption", title));
    return figure;
  };

  const heated = (found) => {
    const under = picture(found.picture, "", "under");
    const over = picture(found.heat, "Heat map over the image", "over");
    // The map covers the image alone, not the frame around it
    under.addEventListener("load", () => {
      const [w, h] = [under.naturalWidth, under.naturalHeight];
      const most = Math.max(w, h);
      over.style.width = `${(100 * w) / most}%`;
      over.style.height = `${(100 * h) / most}%`;
      over.style.left = `${(50 * (most - w)) / most}%`;
      over.style.top = `${(50 * (most - h)) / most}%`;
    });
    return view(`Grad-CAM for ${inWords(found.explained)}. ${found.heat_words}`, under, over);
  };

  const alike = (found) => {
    const part = make("div", undefined, "alike");
    part.append(make("h4", "Most similar training images"));
    if (found.similar.length) {
      const row = make("div", undefined, "row");
      for (const one of found.similar) {
        const figure = make("figure");
        const words = make("figcaption");
        const name = make("bdi", one.name);
        const label = make("strong", inWords(one.label));
        words.append(label, ` ${one.cosine.toFixed(2)}`, make("br"), name);
        name.className = "file";
        figure.append(picture(one.picture, `${one.name}, ${one.label}`), words);
        row.append(figure);
      }
      part.append(row);
    }
    part.append(make("p", found.similar_words, "soft"));
    return part;
  };

  const show = (card, found) => {
    const [headline, words] = verdict(found);
    const pairs = Object.entries(found.probabilities).sort((a, b) => b[1] - a[1]);
    const shares = make("div");
    shares.append(make("h4", "Probabilities"), bars(pairs.slice(0, SHOWN), found));
    if (pairs.length > SHOWN) {
      const rest = make("details");
      rest.append(make("summary", `${pairs.length - SHOWN} more`), bars(pairs.slice(SHOWN), found));
      shares.append(rest);
    }
    const views = make("div", undefined, "views");
    views.append(view("What was read", picture(found.picture, found.name)));
    if (found.heat) views.append(heated(found));
    views.append(shares);
    const said = make("p", headline, found.abstained ? "said unsure" : "said");
    said.dir = "auto";
    card.append(said);
    if (words) card.append(make("p", words));
    card.append(views);
    if (!found.heat) card.append(make("p", found.heat_words, "soft"));
    card.append(alike(found));
  };

  const ask = async (file) => {
    if (file.size > data.bytes) throw new Error(`The file is too large, ${Math.ceil(file.size / 2 ** 20)} MB.`);
    const form = new FormData();
    form.append("files", file);
    let response;
    try {
      response = await fetch("explain", { method: "POST", body: form });
    } catch {
      throw new Error("The program behind this page does not answer; start kmedclf app again.");
    }
    const found = await response.json();
    if (!response.ok) throw new Error(found.detail);
    return found;
  };

  let last = Promise.resolve();
  const classify = (file) => {
    const card = make("article", undefined, "answer");
    const title = make("h3");
    title.append(make("bdi", file.name));
    const waiting = make("p", "Waiting …", "soft");
    card.append(title, waiting);
    answers.prepend(card);
    clear.hidden = false;
    // One at a time: the network is one
    last = last.then(async () => {
      try {
        if (card.isConnected) show(card, await ask(file));
      } catch (error) {
        card.append(make("p", error.message, "problem"));
      }
      waiting.remove();
      card.dataset.done = "true";
    });
  };

  input.addEventListener("change", () => {
    [...input.files].forEach(classify);
    input.value = "";
  });
  // Files that miss the field must not replace the page
  for (const name of ["dragover", "drop"]) {
    document.addEventListener(name, (event) => event.preventDefault());
  }
  document.addEventListener("dragover", () => drop.classList.add("over"));
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    [...event.dataTransfer.files].forEach(classify);
  });
  clear.addEventListener("click", () => {
    answers.replaceChildren();
    clear.hidden = true;
    input.focus();
  });
})();
