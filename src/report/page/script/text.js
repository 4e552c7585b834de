"use strict";
const $ = (id) => document.getElementById(id);
const make = (tag, attributes = {}, ...children) => {
  const svg = ["svg", "rect", "text", "title", "line"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  for (const child of children) element.append(...(typeof child === "string" ? shown(child, svg) : [child]));
  return element;
};
// Text of unknown origin: what a browser obeys is made visible, and each run of right-to-left
// text stands in an element of its own, so that the words around it keep their order.
const picture = (c) => {
  const code = c.codePointAt(0);
  if (c === "\n") return "⏎";
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  return code === 0x7f ? "␡" : `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
};
const obeyed = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff]/gu;
const rightToLeft = "[\\u0590-\\u08ff\\ufb1d-\\ufdff\\ufe70-\\ufefc\\u{10800}-\\u{10fff}\\u{1e800}-\\u{1efff}]";
const run = new RegExp(`(${rightToLeft}(?:[^\\p{L}]*${rightToLeft})*)`, "u");
const shown = (text, plain) => {
  const visible = text.replace(obeyed, picture);
  return plain ? [visible] : visible.split(run).map((part, i) => (i % 2 ? make("bdi", {}, document.createTextNode(part)) : part));
};
