"use strict";
const $ = (id) => document.getElementById(id);
const make = (tag, attributes = {}, ...children) => {
  const svg = ["svg", "rect", "text", "title"].includes(tag);
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

// ---- light and dark
const themes = ["auto", "light", "dark"];
const useTheme = (theme) => {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("theme").textContent = `Theme: ${theme}`;
};
$("theme").hidden = false;
$("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme || "auto";
  useTheme(themes[(themes.indexOf(now) + 1) % themes.length]);
});

// ---- the ledger
if ($("ledger-table")) {
  const rows = [...$("ledger-table").tBodies[0].rows];
  const filter = () => {
    const words = $("ledger-search").value.toLowerCase();
    const verdict = $("ledger-verdict").value;
    let shown = 0;
    for (const row of rows) {
      const fits = (!verdict || row.dataset.verdict === verdict) && row.textContent.toLowerCase().includes(words);
      row.hidden = !fits;
      shown += fits;
    }
    $("ledger-count").textContent = `${shown} of ${rows.length} claims`;
  };
  $("ledger-filters").hidden = false;
  $("ledger-filters").addEventListener("submit", (event) => event.preventDefault());
  $("ledger-filters").addEventListener("input", filter);
  filter();
}

// ---- neurons
const data = $("data") && JSON.parse($("data").textContent);
if (data) {
  const { columns, threshold } = data;
  const excess = columns.indexOf("excess_corr");
  const neurons = data.neurons.map(([layer, neuron, ...values], i) => ({
    id: `L${layer}.N${neuron}`, layer, values, best: data.best[i], universal: values[excess] > threshold,
  }));
  const byId = new Map(neurons.map((n) => [n.id, n]));
  const cards = new Map(data.cards.map((card) => [card.neuron, card]));
  const shownColumns = ["excess_corr", "mean_corr", "mean_baseline", "skew", "kurt", "sparsity", "in_out_sim", "vocab_kurt"];
  const number = (v) => (v === null ? "–" : Number(v).toPrecision(3).replace(/\.?0+$/, ""));
  const order = { column: excess, down: true };
  let limit = 25;

  const words = (neuron) => {
    const card = cards.get(neuron.id);
    return card ? [card.sentence, ...card.promoted.map((t) => t[0])].join(" ").toLowerCase() : "";
  };
  const fits = (neuron, wanted) => {
    if (!wanted) return true;
    const id = neuron.id.toLowerCase();
    return id === wanted || id.startsWith(wanted.endsWith(".") || wanted.includes(".n") ? wanted : `${wanted}.`) || words(neuron).includes(wanted);
  };
  const compare = (a, b) => {
    const [x, y] = [a, b].map((n) => n.values[order.column]);
    if (x === null || y === null) return (x === null) - (y === null);
    return order.down ? y - x : x - y;
  };
  const drawTable = () => {
    const wanted = $("neuron-search").value.trim().toLowerCase();
    const found = neurons.filter((n) => fits(n, wanted)
      && (!$("only-universal").checked || n.universal) && (!$("only-cards").checked || cards.has(n.id)));
    found.sort(compare);
    const head = make("tr", {}, make("th", { scope: "col" }, "neuron"));
    for (const name of shownColumns) {
      const column = columns.indexOf(name);
      const sorted = column === order.column;
      const button = make("button", { type: "button" }, name + (sorted ? (order.down ? " ↓" : " ↑") : ""));
      button.addEventListener("click", () => {
        order.down = sorted ? !order.down : true;
        order.column = column;
        drawTable();
        $("neuron-table").tHead.rows[0].cells[shownColumns.indexOf(name) + 1].firstChild.focus();
      });
      const cell = make("th", { scope: "col" }, button);
      if (sorted) cell.setAttribute("aria-sort", order.down ? "descending" : "ascending");
      head.append(cell);
    }
    const body = make("tbody");
    for (const neuron of found.slice(0, limit)) {
      const link = make("a", { href: `#${neuron.id}` }, neuron.id);
      const row = make("tr", {}, make("th", { scope: "row" }, link, neuron.universal ? " ●" : ""));
      for (const name of shownColumns) row.append(make("td", {}, number(neuron.values[columns.indexOf(name)])));
      body.append(row);
    }
    $("neuron-table").replaceChildren(make("thead", {}, head), body);
    $("neuron-count").textContent = `${found.length} of ${neurons.length} neurons; ● universal`;
    $("more").hidden = found.length <= limit;
  };

  // Percentile among the neurons of the layer, ties averaged.
  const rank = (neuron, column) => {
    const value = neuron.values[column];
    const others = neurons.filter((n) => n.layer === neuron.layer && n.values[column] !== null).map((n) => n.values[column]);
    const below = others.filter((v) => v < value).length;
    const upTo = others.filter((v) => v <= value).length;
    return value === null ? null : (100 * (below + upTo + 1)) / 2 / others.length;
  };
  const rowTable = (neuron) => {
    const table = make("table", {}, make("caption", {}, "Its row, with percentiles in its layer"));
    columns.forEach((name, column) => {
      const percentile = rank(neuron, column);
      const bar = make("span", { class: "rank" }, make("i", { style: `width:${percentile ?? 0}%` }));
      table.append(make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, number(neuron.values[column])),
        make("td", {}, percentile === null ? "–" : percentile.toFixed(0)), make("td", {}, bar)));
    });
    return table;
  };
  const partnerTable = (neuron) => {
    const table = make("table", {}, make("caption", {}, "Best partner in each model"));
    table.append(make("tr", {}, ...["model", "neuron", "ρ", "chance"].map((t) => make("th", { scope: "col" }, t))));
    data.partners.forEach((model, i) => {
      const [id, rho, chance] = neuron.best[i];
      table.append(make("tr", {}, make("th", { scope: "row" }, model), make("td", {}, id || "none"), make("td", {}, number(rho)), make("td", {}, number(chance))));
    });
    return table;
  };
  const histogram = (card) => {
    const { from, width, yes, no } = card.histogram;
    const [wide, high] = [360, 150];
    const tallest = Math.max(...yes.map((n, i) => n + no[i]), 1);
    // Few tokens of large activation are what matters, and are seen on a logarithmic scale.
    const height = (n) => ((high - 24) * Math.log1p(n)) / Math.log1p(tallest);
    const svg = make("svg", { viewBox: `0 0 ${wide} ${high}`, width: wide, height: high, role: "img", "aria-label": "Histogram of pre-activations" });
    yes.forEach((n, i) => {
      const bar = (count, color) => svg.append(make("rect", { x: (i * wide) / yes.length, width: wide / yes.length - 1, y: high - 18 - height(count), height: height(count), fill: color },
        make("title", {}, `${number(from + i * width)} to ${number(from + (i + 1) * width)}: ${n} yes, ${no[i]} no`)));
      bar(n + no[i], "var(--grey)");
      if (n) bar(n, "var(--blue)");
    });
    const label = (x, anchor, value) => svg.append(make("text", { x, y: high - 3, "text-anchor": anchor, "font-size": 12, fill: "var(--ink)" }, number(value)));
    label(0, "start", from);
    label(wide, "end", from + width * yes.length);
    return svg;
  };
  const context = ({ tokens, values, at, domain, sample }) => {
    const most = Math.max(...values.map((v) => v || 0), 1e-9);
    const line = make("p", { class: "place" });
    tokens.forEach((token, i) => {
      const share = Math.max(0, values[i] || 0) / most;
      const style = share > 0.02 ? `background:color-mix(in srgb, var(--blue) ${Math.round(45 * share)}%, transparent)` : "";
      line.append(make("span", { style, title: values[i] === null ? "left out" : number(values[i]) }, i === at ? make("b", {}, token) : token));
    });
    line.append(make("span", { class: "note" }, `  ${number(values[at])} · ${domain}, ${sample}`));
    return line;
  };
  const tokens = (title, list) => {
    const line = make("p", {}, `${title}: `);
    for (const [token, effect] of list) line.append(make("span", { class: "token", title: number(effect) }, token || "∅"), " ");
    return line;
  };
  const drawCard = () => {
    const neuron = byId.get(decodeURIComponent(location.hash.slice(1)));
    $("card").hidden = !neuron;
    if (!neuron) return;
    const card = cards.get(neuron.id);
    const parts = [make("h3", {}, `${neuron.id}${neuron.universal ? ", universal" : ""}`)];
    if (card) {
      parts.push(make("p", {}, card.sentence));
      parts.push(tokens("Promotes", card.promoted), tokens("Suppresses", card.suppressed));
    }
    const columnsOf = make("div", { class: "columns" });
    const left = make("div", { class: "wide" }, partnerTable(neuron));
    if (card) {
      const split = card.explanations[0] ? `; blue where the answer to “${card.explanations[0].test}” is yes` : "";
      left.append(make("h4", {}, "Pre-activations"), make("p", { class: "note" }, `Tokens by pre-activation, on a logarithmic scale${split}.`), histogram(card));
      if (card.explanations.length) {
        left.append(make("h4", {}, "Best explanations"), make("ul", {}, ...card.explanations.map((e) =>
          make("li", {}, `${e.test} (${e.family}): ${(100 * e.reduction).toFixed(0)} % of the variance, ${e.difference > 0 ? "more" : "less"} active on its ${e.support} tokens`))));
      }
    }
    columnsOf.append(left, make("div", { class: "wide" }, rowTable(neuron)));
    if (card) parts.push(make("h4", {}, "Most active, one place of each text"), ...card.contexts.map(context));
    else parts.push(make("p", { class: "note" }, `Not looked at closely in this run: universal-neurons inspect ${neuron.id} shows its tokens and texts.`));
    parts.push(columnsOf);
    $("card").replaceChildren(...parts);
    $("card").focus({ preventScroll: true });
    $("card").scrollIntoView({ block: "start" });
  };

  $("neuron-filters").hidden = false;
  $("neuron-filters").addEventListener("submit", (event) => event.preventDefault());
  $("neuron-filters").addEventListener("input", () => { limit = 25; drawTable(); });
  $("more").addEventListener("click", () => { limit *= 4; drawTable(); });
  addEventListener("hashchange", drawCard);
  drawTable();
  drawCard();
}
