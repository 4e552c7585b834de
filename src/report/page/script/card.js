
// ---- the card of a neuron
// The cards of a study: those of its own neurons by id, those of their best matches by model and id.
const keyOf = (model, id) => `${model}.${id}`;
const cardsOf = (bytes) => {
  const { cards, partner_cards, tokens_of_partners } = json(bytes);
  const partners = new Map(partner_cards.map((card) => [keyOf(card.model, card.neuron), card]));
  return { own: new Map(cards.map((card) => [card.neuron, card])), partners, tokensOfPartners: tokens_of_partners };
};
const linkTo = (key, text) => make("a", { href: `#${encodeURIComponent(key)}` }, text);
const number = (v) => (v === null ? "–" : Number(v).toPrecision(3).replace(/\.?0+$/, ""));
// Numbers of cards are rounded once, when they are written.
const given = (v) => (v === null ? "–" : String(v));

const rowTable = (study, neuron) => {
  const table = make("table", {}, make("caption", {}, "Its row, with percentiles in its layer"));
  const ranks = ranksOf(study, neuron);
  [...study.columns].forEach(([name, column], i) => {
    const bar = make("span", { class: "rank" }, make("i", { style: `width:${ranks[i] ?? 0}%` }));
    table.append(make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, textOf(column, neuron.row)),
      make("td", {}, ranks[i] === null ? "–" : ranks[i].toFixed(0)), make("td", {}, bar)));
  });
  return table;
};
const partnerTable = (study, cards, neuron, card) => {
  const table = make("table", {}, make("caption", {}, "Best match in each model"));
  const heads = ["model", "neuron", "ρ", "chance", ...(card ? ["seen from there"] : [])];
  table.append(make("tr", {}, ...heads.map((t) => make("th", { scope: "col" }, t))));
  for (const { model, layer, neuron: index, rho, chance } of study.partners) {
    const none = Number.isNaN(layer.values[neuron.row]);
    const id = none ? "none" : `L${layer.values[neuron.row]}.N${index.values[neuron.row]}`;
    const key = keyOf(model, id);
    const row = make("tr", {}, make("th", { scope: "row" }, model), make("td", {}, cards.partners.has(key) ? linkTo(key, id) : id),
      make("td", {}, textOf(rho, neuron.row)), make("td", {}, textOf(chance, neuron.row)));
    const match = card?.matches.find((m) => m.model === model);
    if (card) row.append(match ? make("td", { class: "mutual" }, ...mutual(study, match)) : make("td"));
    table.append(row);
  }
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
const tokenLine = (title, list) => {
  // Units other than neurons have no effect on the vocabulary.
  if (!list.length) return "";
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
// What a card shows beside the columns of the neuron: histogram and explanations.
const distribution = (card) => {
  const split = card.explanations[0] ? `; blue where the answer to “${card.explanations[0].test}” is yes` : "";
  const parts = [make("h4", {}, "Pre-activations"), make("p", { class: "note" }, `Tokens by pre-activation, on a logarithmic scale${split}.`), histogram(card)];
  if (!card.explanations.length) return parts;
  const one = (e) => make("li", {}, `${e.test} (${e.family}): ${(100 * e.reduction).toFixed(0)} % of the variance, ${e.difference > 0 ? "more" : "less"} active on its ${e.support} tokens`);
  return [...parts, make("h4", {}, "Best explanations"), make("ul", {}, ...card.explanations.map(one))];
};
const ownCard = (study, cards, neuron) => {
  const card = cards.own.get(neuron.id);
  const parts = [make("h3", {}, `${neuron.id}${neuron.universal ? ", universal" : ""}${neuron.name && `: ${neuron.name}`}`)];
  const left = make("div", { class: "wide" }, partnerTable(study, cards, neuron, card));
  if (card) {
    const sure = card.interval ? ` (95 %: ${number(card.interval[0])} to ${number(card.interval[1])})` : "";
    parts.push(make("p", {}, card.sentence),
      make("p", { id: "excess" }, `Excess correlation ${textOf(study.columns.get("excess_corr"), neuron.row)}${sure}.`),
      tokenLine("Promotes", card.promoted), tokenLine("Suppresses", card.suppressed),
      make("h4", {}, "Most active, one place of each text"), ...card.contexts.map((c) => context(c)), ...sampled(card), ...comparison(study, cards, neuron, card));
    left.append(...distribution(card));
  } else {
    parts.push(make("p", { class: "note" }, `Not looked at closely in this run: universal-neurons inspect ${neuron.id} shows its tokens and texts.`));
  }
  return [...parts, make("div", { class: "columns" }, left, make("div", { class: "wide" }, rowTable(study, neuron)))];
};
// The card of a neuron of another model.
const partnerCard = (study, cards, card) => {
  const named = [...cards.own.values()].flatMap((c) => c.matches.filter((m) => m.model === card.model && m.neuron === card.neuron).map((m) => [c.neuron, m]));
  const list = named.map(([id, m]) => make("li", {}, linkTo(id, id), ` with ρ ${number(m.rho)}, `, ...mutual(study, m)));
  return [make("h3", {}, `${card.neuron} of model ${card.model}${card.name ? `: ${card.name}` : ""}`), make("p", {}, "Best match of"), make("ul", {}, ...list),
    tokenLine("Promotes", card.promoted), tokenLine("Suppresses", card.suppressed),
    make("h4", {}, "Most active, one place of each text"), ...card.contexts.map((c) => context(c))];
};
