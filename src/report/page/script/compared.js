
// ---- a neuron beside its best matches
// Whether a match is mutual, in words.
const mutual = ({ neurons }, { rank, closest, closest_rho }) => (rank === 1 ? ["mutual"]
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
const comparison = (study, cards, neuron, card) => {
  if (!card.matches.length) return [];
  const same = make("div", { id: "same" });
  const choice = make("select", { id: "partner" });
  card.matches.forEach((m, i) => choice.append(make("option", { value: i }, `${m.neuron} of ${m.model}`)));
  const draw = () => {
    const match = card.matches[choice.value || 0];
    const other = cards.partners.get(keyOf(match.model, match.neuron));
    const explained = match.explained === null || !card.explanations.length ? [] : [make("p", {}, `“${card.explanations[0].test}” explains ${(100 * card.explanations[0].reduction).toFixed(0)} % of the variance of ${neuron.id} and ${(100 * match.explained).toFixed(0)} % of that of ${match.neuron}.`)];
    const sides = [[neuron.id, card], [match.neuron, other]].map(([id, shown]) => make("div", {}, make("h5", {}, id),
      strongest(shown.contexts), tokenLine("Promotes", shown.promoted), tokenLine("Suppresses", shown.suppressed)));
    same.replaceChildren(...explained, make("div", { class: "columns" }, ...sides),
      make("p", { class: "note" }, `Each text once: the upper half of a token is coloured by ${neuron.id} (blue), the lower by ${match.neuron} of ${match.model} (orange), each as a share of its largest activation shown.`),
      ...card.compared.map((c, i) => context(c, match.values[i])));
  };
  choice.addEventListener("change", draw);
  draw();
  const plots = card.matches.map((m) => make("figure", {}, joint(neuron, m), make("figcaption", {}, `${m.model}: ρ ${number(m.rho)}, `, ...mutual(study, m))));
  return [make("h4", {}, "Is it the same neuron in the other models?"),
    make("p", { class: "note" }, `On the ${cards.tokensOfPartners} tokens that all models read for the cards. Squares: tokens by both activations, on a logarithmic scale; line: regression. A match is mutual if ${neuron.id} is also the best match of its partner.`),
    make("div", { class: "joints" }, ...plots), make("p", {}, make("label", {}, "Side by side with ", choice)), same];
};
const strongest = (contexts) => {
  const places = contexts.map((c) => [c.tokens[groups(c.tokens).findLast(([start]) => start <= c.at)[0]], c.values[c.at]]);
  return tokenLine("Strongest on", places);
};
