"use strict";
// What the scripts of all pages share.
const make = (tag, text, className) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
};
const inWords = (name) => `\u2068${name.replace(/([\p{L}\p{N}])_(?=[\p{L}\p{N}])/gu, "$1 ")}\u2069`;
const picture = (base64, alt, className) => {
  const image = make("img", undefined, className);
  image.alt = alt;
  image.addEventListener("load", () => {
    if (image.naturalWidth < 64) image.classList.add("small");
  });
  image.src = `data:image/webp;base64,${base64}`;
  return image;
};
