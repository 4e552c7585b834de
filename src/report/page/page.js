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
  const { columns } = data;
  const excess = columns.indexOf("excess_corr");
  const universal = new Set(data.universal);
  const neurons = data.neurons.map(([layer, neuron, ...values], i) => ({
    id: `L${layer}.N${neuron}`, layer, values, best: data.best[i], universal: universal.has(i),
  }));
  const byId = new Map(neurons.map((n) => [n.id, n]));
  const cards = new Map(data.cards.map((card) => [card.neuron, card]));
  const keyOf = (model, id) => `${model}.${id}`;
  const partnerCards = new Map(data.partner_cards.map((card) => [keyOf(card.model, card.neuron), card]));
  const linkTo = (key, text) => make("a", { href: `#${encodeURIComponent(key)}` }, text);
  const shownColumns = ["excess_corr", "mean_corr", "mean_baseline", "skew", "kurt", "sparsity", "in_out_sim", "vocab_kurt"];
  const number = (v) => (v === null ? "–" : Number(v).toPrecision(3).replace(/\.?0+$/, ""));
  // Numbers of cards are rounded once, when they are written.
  const given = (v) => (v === null ? "–" : String(v));
  const order = { column: excess, down: true };
  let limit = 25;

  const words = (neuron) => {
    const card = cards.get(neuron.id);
    return card ? [card.sentence, ...card.promoted.map((t) => t[0])].join(" ").toLowerCase() : "";
  };
  const fits = (neuron, wanted) => {
    if (!wanted) return true;
    const id = neuron.id.toLowerCase();
    const layer = wanted.match(/^layer (\d+)$/);
    if (layer) return neuron.layer === Number(layer[1]);
    return id === wanted || id.startsWith(wanted.endsWith(".") || wanted.includes(".n") ? wanted : `${wanted}.`) || words(neuron).includes(wanted);
  };
  // The family of the test that explains a neuron best, if it has a card.
  const familyOf = (neuron) => cards.get(neuron.id)?.explanations[0]?.family;
  const compare = (a, b) => {
    const [x, y] = [a, b].map((n) => n.values[order.column]);
    if (x === null || y === null) return (x === null) - (y === null);
    return order.down ? y - x : x - y;
  };
  const drawTable = () => {
    const wanted = $("neuron-search").value.trim().toLowerCase();
    const [layer, family] = [$("neuron-layer").value, $("neuron-family").value];
    const [from, to] = ["excess-from", "excess-to"].map((id) => $(id).value);
    const within = (value) => (from === "" || (value !== null && value >= Number(from))) && (to === "" || (value !== null && value <= Number(to)));
    const found = neurons.filter((n) => fits(n, wanted) && within(n.values[excess])
      && (layer === "" || n.layer === Number(layer)) && (family === "" || familyOf(n) === family)
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
  const partnerTable = (neuron, card) => {
    const table = make("table", {}, make("caption", {}, "Best match in each model"));
    const heads = ["model", "neuron", "ρ", "chance", ...(card ? ["seen from there"] : [])];
    table.append(make("tr", {}, ...heads.map((t) => make("th", { scope: "col" }, t))));
    data.partners.forEach((model, i) => {
      const [id, rho, chance] = neuron.best[i];
      const key = keyOf(model, id);
      const row = make("tr", {}, make("th", { scope: "row" }, model), make("td", {}, partnerCards.has(key) ? linkTo(key, id) : id || "none"), make("td", {}, number(rho)), make("td", {}, number(chance)));
      const match = card?.matches.find((m) => m.model === model);
      if (card) row.append(match ? make("td", { class: "mutual" }, ...mutual(match)) : make("td"));
      table.append(row);
    });
    return table;
  };
  // Whether a match is mutual, in words.
  const mutual = ({ rank, closest, closest_rho }) => (rank === 1 ? ["mutual"]
    : [`rank ${rank} of ${neurons.length}; `, linkTo(closest, closest), ` is nearer, ρ ${number(closest_rho)}`]);
  // Two activations over the same tokens: squares by number of tokens, and the regression line.
  const joint = (neuron, match) => {
    const { bins, counts, x: [x0, dx], y: [y0, dy], line: [intercept, slope] } = match.joint;
    const [side, left, under] = [9, 6, 34];
    const size = side * bins;
    const most = Math.max(...counts.map(([, n]) => n), 1);
    const tokens = counts.reduce((sum, [, n]) => sum + n, 0);
    const about = `Joint distribution of ${neuron.id} and ${match.neuron} of ${match.model} over ${tokens} tokens, ρ ${number(match.rho)}; regression line ${number(intercept)} + ${number(slope)} × ${neuron.id}`;
    const svg = make("svg", { viewBox: `0 0 ${size + 2 * left} ${size + under}`, width: size + 2 * left, height: size + under, role: "img", "aria-label": about, class: "joint" });
    svg.append(make("rect", { x: left, y: 0, width: size, height: size, fill: "none", stroke: "var(--axis)" }));
    for (const [cell, n] of counts) {
      const [column, row] = [cell % bins, Math.floor(cell / bins)];
      svg.append(make("rect", { x: left + side * column, y: size - side * (row + 1), width: side, height: side, fill: "var(--blue)", "fill-opacity": (0.15 + (0.85 * Math.log1p(n)) / Math.log1p(most)).toFixed(2), "data-n": n },
        make("title", {}, `${neuron.id} ${number(x0 + column * dx)} to ${number(x0 + (column + 1) * dx)}, ${match.neuron} ${number(y0 + row * dy)} to ${number(y0 + (row + 1) * dy)}: ${n} tokens`)));
    }
    if (slope !== null && dx > 0 && dy > 0) {
      const ends = [y0, y0 + bins * dy].map((y) => (y - intercept) / slope).sort((a, b) => a - b);
      const [from, to] = [Math.max(x0, ends[0]), Math.min(x0 + bins * dx, ends[1])];
      const px = (x) => left + ((x - x0) / dx) * side;
      const py = (y) => size - ((y - y0) / dy) * side;
      if (from < to) svg.append(make("line", { x1: px(from), y1: py(intercept + slope * from), x2: px(to), y2: py(intercept + slope * to), stroke: "var(--orange)", "stroke-width": 2 }));
    }
    const label = (x, y, anchor, text) => svg.append(make("text", { x, y, "text-anchor": anchor, "font-size": 12, fill: "var(--ink)" }, text));
    label(left, size + 14, "start", number(x0));
    label(left + size, size + 14, "end", number(x0 + bins * dx));
    label(left + size / 2, size + 30, "middle", `→ ${neuron.id}   ↑ ${match.neuron} of ${match.model}`);
    label(left + 4, 13, "start", `${number(y0)} to ${number(y0 + bins * dy)} ↑`);
    return svg;
  };
  // The answer to "is it the same neuron?": words, joint distributions, and texts read by both.
  const comparison = (neuron, card) => {
    if (!card.matches.length) return [];
    const same = make("div", { id: "same" });
    const choice = make("select", { id: "partner" });
    card.matches.forEach((m, i) => choice.append(make("option", { value: i }, `${m.neuron} of ${m.model}`)));
    const draw = () => {
      const match = card.matches[choice.value || 0];
      const other = partnerCards.get(keyOf(match.model, match.neuron));
      const explained = match.explained === null || !card.explanations.length ? [] : [make("p", {}, `“${card.explanations[0].test}” explains ${(100 * card.explanations[0].reduction).toFixed(0)} % of the variance of ${neuron.id} and ${(100 * match.explained).toFixed(0)} % of that of ${match.neuron}.`)];
      const sides = [[neuron.id, card], [match.neuron, other]].map(([id, shown]) => make("div", {}, make("h5", {}, id),
        strongest(shown.contexts), tokens("Promotes", shown.promoted), tokens("Suppresses", shown.suppressed)));
      same.replaceChildren(...explained, make("div", { class: "columns" }, ...sides),
        make("p", { class: "note" }, `Each text once: the upper half of a token is coloured by ${neuron.id} (blue), the lower by ${match.neuron} of ${match.model} (orange), each as a share of its largest activation shown.`),
        ...card.compared.map((c, i) => context(c, match.values[i])));
    };
    choice.addEventListener("change", draw);
    draw();
    const plots = card.matches.map((m) => make("figure", {}, joint(neuron, m), make("figcaption", {}, `${m.model}: ρ ${number(m.rho)}, `, ...mutual(m))));
    return [make("h4", {}, "Is it the same neuron in the other models?"),
      make("p", { class: "note" }, `On the ${data.tokens_of_partners} tokens that all models read for the cards. Squares: tokens by both activations, on a logarithmic scale; line: regression. A match is mutual if ${neuron.id} is also the best match of its partner.`),
      make("div", { class: "joints" }, ...plots), make("p", {}, make("label", {}, "Side by side with ", choice)), same];
  };
  const strongest = (contexts) => {
    const places = contexts.map((c) => [c.tokens[groups(c.tokens).findLast(([start]) => start <= c.at)[0]], c.values[c.at]]);
    return tokens("Strongest on", places);
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
  // Tokens from one whole character to the next: [start, end).
  const groups = (tokens) => {
    const starts = tokens.map((_, i) => i).filter((i) => i === 0 || tokens[i] !== "");
    return starts.map((start, i) => [start, starts[i + 1] ?? tokens.length]);
  };
  const largest = (values) => Math.max(...values.map((v) => v || 0), 1e-9);
  const tint = (color, share) => (share > 0.02 ? `color-mix(in srgb, var(${color}) ${Math.round(45 * share)}%, transparent)` : "transparent");
  // A text, coloured by the activations of one neuron or of two, as shares of the largest one shown or
  // of a given one.
  const context = ({ tokens, values, at, domain, sample }, others, scale) => {
    const line = make("p", { class: "place" });
    const all = others ? [values, others] : [values];
    const most = scale ? [scale] : all.map(largest);
    for (const [start, end] of groups(tokens)) {
      const shares = all.map((list, i) => Math.max(0, largest(list.slice(start, end))) / most[i]);
      const [upper, lower] = shares.map((share, i) => tint(["--blue", "--orange"][i], share));
      const style = others ? `background:linear-gradient(${upper} 50%, ${lower} 50%)` : upper === "transparent" ? "" : `background:${upper}`;
      const title = all.map((list) => list.slice(start, end).map((v) => (v === null ? "left out" : given(v))).join(" ")).join(" | ");
      line.append(make("span", { style, title }, start <= at && at < end ? make("b", {}, tokens[start]) : tokens[start]));
    }
    line.append(make("span", { class: "note" }, `  ${all.map((list) => given(list[at])).join(" | ")} · ${domain}, ${sample}`));
    return line;
  };
  const tokens = (title, list) => {
    const line = make("p", {}, `${title}: `);
    for (const [token, effect] of list) line.append(make("span", { class: "token", title: given(effect) }, token || "∅"), " ");
    return line;
  };
  // Tokens at percentiles of the activation: what the neuron does where it is not most active.
  const sampled = (card) => {
    if (!card.sampled.length) return [];
    const most = largest(card.contexts.map((c) => c.values[c.at]));
    const list = card.sampled.map((c) => [make("dt", {}, `${c.percentile} % of tokens are below`), make("dd", {}, context(c, undefined, most))]);
    return [make("h4", {}, "Across its range"), make("p", { class: "note" }, "One token at each of some percentiles of its activation, coloured as a share of its largest activation above."), make("dl", { class: "sampled" }, ...list.flat())];
  };
  // The card of a neuron of another model.
  const partnerCard = (card) => {
    const named = data.cards.flatMap((c) => c.matches.filter((m) => m.model === card.model && m.neuron === card.neuron).map((m) => [c.neuron, m]));
    const list = named.map(([id, m]) => make("li", {}, linkTo(id, id), ` with ρ ${number(m.rho)}, `, ...mutual(m)));
    return [make("h3", {}, `${card.neuron} of model ${card.model}`), make("p", {}, "Best match of"), make("ul", {}, ...list),
      tokens("Promotes", card.promoted), tokens("Suppresses", card.suppressed),
      make("h4", {}, "Most active, one place of each text"), ...card.contexts.map((c) => context(c))];
  };
  const drawCard = () => {
    const key = decodeURIComponent(location.hash.slice(1));
    const [neuron, partner] = [byId.get(key), partnerCards.get(key)];
    $("card").hidden = !neuron && !partner;
    if (!neuron && !partner) return;
    $("card").replaceChildren(...(neuron ? ownCard(neuron) : partnerCard(partner)));
    $("card").focus({ preventScroll: true });
    $("card").scrollIntoView({ block: "start" });
  };
  const ownCard = (neuron) => {
    const card = cards.get(neuron.id);
    const parts = [make("h3", {}, `${neuron.id}${neuron.universal ? ", universal" : ""}`)];
    if (card) {
      parts.push(make("p", {}, card.sentence));
      const sure = card.interval ? ` (95 %: ${number(card.interval[0])} to ${number(card.interval[1])})` : "";
      parts.push(make("p", { id: "excess" }, `Excess correlation ${number(neuron.values[excess])}${sure}.`));
      parts.push(tokens("Promotes", card.promoted), tokens("Suppresses", card.suppressed));
    }
    const columnsOf = make("div", { class: "columns" });
    const left = make("div", { class: "wide" }, partnerTable(neuron, card));
    if (card) {
      const split = card.explanations[0] ? `; blue where the answer to “${card.explanations[0].test}” is yes` : "";
      left.append(make("h4", {}, "Pre-activations"), make("p", { class: "note" }, `Tokens by pre-activation, on a logarithmic scale${split}.`), histogram(card));
      if (card.explanations.length) {
        left.append(make("h4", {}, "Best explanations"), make("ul", {}, ...card.explanations.map((e) =>
          make("li", {}, `${e.test} (${e.family}): ${(100 * e.reduction).toFixed(0)} % of the variance, ${e.difference > 0 ? "more" : "less"} active on its ${e.support} tokens`))));
      }
    }
    columnsOf.append(left, make("div", { class: "wide" }, rowTable(neuron)));
    if (card) parts.push(make("h4", {}, "Most active, one place of each text"), ...card.contexts.map((c) => context(c)), ...sampled(card), ...comparison(neuron, card));
    else parts.push(make("p", { class: "note" }, `Not looked at closely in this run: universal-neurons inspect ${neuron.id} shows its tokens and texts.`));
    parts.push(columnsOf);
    return parts;
  };

  const options = (id, values) => values.forEach((v) => $(id).append(make("option", { value: v }, String(v))));
  options("neuron-layer", [...new Set(neurons.map((n) => n.layer))]);
  options("neuron-family", [...new Set(neurons.map(familyOf).filter(Boolean))].sort());
  $("neuron-filters").hidden = false;
  $("neuron-filters").addEventListener("submit", (event) => event.preventDefault());
  $("neuron-filters").addEventListener("input", () => { limit = 25; drawTable(); });
  $("more").addEventListener("click", () => { limit *= 4; drawTable(); });
  // On paper a page without an open card shows that of the most universal neuron.
  addEventListener("beforeprint", () => {
    if (!$("card").hidden || !data.cards.length) return;
    const known = neurons.filter((n) => n.values[excess] !== null && cards.has(n.id));
    $("card").replaceChildren(...ownCard(known.reduce((a, b) => (b.values[excess] > a.values[excess] ? b : a))));
    $("card").hidden = false;
    addEventListener("afterprint", () => { $("card").hidden = true; }, { once: true });
  });
  addEventListener("hashchange", drawCard);
  drawTable();
  drawCard();
}
