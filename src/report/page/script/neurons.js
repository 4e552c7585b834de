
// ---- the section about neurons
const SHOWN = ["excess_corr", "mean_corr", "mean_baseline", "skew", "kurt", "sparsity", "in_out_sim", "vocab_kurt"];

// Returns the neurons that the form asks for.
const filtered = ({ neurons, columns, looked }) => {
  const wanted = $("neuron-search").value.trim().toLowerCase();
  const [layer, family] = [$("neuron-layer").value, $("neuron-family").value];
  const [from, to] = ["excess-from", "excess-to"].map((id) => $(id).value);
  const excess = columns.get("excess_corr");
  const within = ({ row }) => {
    const value = valueOf(excess, row);
    return (from === "" || value >= Number(from)) && (to === "" || value <= Number(to));
  };
  const ofLayer = wanted.match(/^layer (\d+)$/);
  const says = ({ sentence, promoted }) => [sentence, ...promoted].join(" ").toLowerCase().includes(wanted);
  const fits = (neuron) => {
    if (!wanted) return true;
    if (ofLayer) return neuron.layer === Number(ofLayer[1]);
    const id = neuron.id.toLowerCase();
    const begins = wanted.endsWith(".") || wanted.includes(".n") ? wanted : `${wanted}.`;
    return id === wanted || id.startsWith(begins) || neuron.name.toLowerCase().includes(wanted) || (looked.has(neuron.id) && says(looked.get(neuron.id)));
  };
  return neurons.filter((n) => fits(n) && within(n) && (layer === "" || n.layer === Number(layer))
    && (family === "" || looked.get(n.id)?.family === family)
    && (!$("only-universal").checked || n.universal) && (!$("only-cards").checked || looked.has(n.id)));
};
// Sorts neurons by a column, those without a number last.
const sort = (found, { values }, down) => {
  const missing = (row) => Number(Number.isNaN(values[row]));
  found.sort((a, b) => missing(a.row) - missing(b.row) || (down ? values[b.row] - values[a.row] : values[a.row] - values[b.row]) || 0);
};

// Draws the table, and again whenever its order or the form changes.
const showTable = (study) => {
  const order = { name: "excess_corr", down: true };
  let limit = 25;
  const heading = (name) => {
    const sorted = name === order.name;
    const button = make("button", { type: "button" }, name + (sorted ? (order.down ? " ↓" : " ↑") : ""));
    button.addEventListener("click", () => {
      order.down = sorted ? !order.down : true;
      order.name = name;
      draw();
      $("neuron-table").tHead.rows[0].cells[SHOWN.indexOf(name) + 1].firstChild.focus();
    });
    const cell = make("th", { scope: "col" }, button);
    if (sorted) cell.setAttribute("aria-sort", order.down ? "descending" : "ascending");
    return cell;
  };
  const line = (neuron) => {
    const link = make("a", { href: `#${neuron.id}` }, neuron.id);
    const cells = SHOWN.map((name) => make("td", {}, textOf(study.columns.get(name), neuron.row)));
    const name = neuron.name && make("span", { class: "note" }, ` ${neuron.name}`);
    return make("tr", {}, make("th", { scope: "row" }, link, neuron.universal ? " ●" : "", name), ...cells);
  };
  const draw = () => {
    const found = filtered(study);
    sort(found, study.columns.get(order.name), order.down);
    const head = make("tr", {}, make("th", { scope: "col" }, "neuron"), ...SHOWN.map(heading));
    $("neuron-table").replaceChildren(make("thead", {}, head), make("tbody", {}, ...found.slice(0, limit).map(line)));
    $("neuron-count").textContent = `${found.length} of ${study.neurons.length} neurons; ● universal`;
    $("more").hidden = found.length <= limit;
  };
  const options = (id, values) => values.forEach((v) => $(id).append(make("option", { value: v }, String(v))));
  options("neuron-layer", [...new Set(study.neurons.map((n) => n.layer))]);
  options("neuron-family", [...new Set([...study.looked.values()].map((words) => words.family).filter(Boolean))].sort());
  $("neuron-filters").hidden = false;
  $("neuron-filters").addEventListener("submit", (event) => event.preventDefault());
  $("neuron-filters").addEventListener("input", () => { limit = 25; draw(); });
  $("more").addEventListener("click", () => { limit *= 4; draw(); });
  draw();
};

// Shows the card of the neuron that the address names.
const showCards = (study, cards) => {
  const byId = new Map(study.neurons.map((n) => [n.id, n]));
  const draw = () => {
    const key = decodeURIComponent(location.hash.slice(1));
    const [neuron, partner] = [byId.get(key), cards.partners.get(key)];
    $("card").hidden = !neuron && !partner;
    if (!neuron && !partner) return;
    $("card").replaceChildren(...(neuron ? ownCard(study, cards, neuron) : partnerCard(study, cards, partner)));
    $("card").focus({ preventScroll: true });
    $("card").scrollIntoView({ block: "start" });
  };
  // On paper a page without an open card shows that of the most universal neuron.
  addEventListener("beforeprint", () => {
    const { values } = study.columns.get("excess_corr");
    const known = [...cards.own.keys()].map((id) => byId.get(id)).filter((n) => !Number.isNaN(values[n.row]));
    if (!$("card").hidden || !known.length) return;
    $("card").replaceChildren(...ownCard(study, cards, known.reduce((a, b) => (values[b.row] > values[a.row] ? b : a))));
    $("card").hidden = false;
    addEventListener("afterprint", () => { $("card").hidden = true; }, { once: true });
  });
  addEventListener("hashchange", draw);
  draw();
};

// The table comes first; the cards, which are larger, are unpacked once it can be seen.
const showNeurons = async () => {
  const study = studyOf(await unpack("packed-table"));
  showTable(study);
  performance.mark("neurons");
  await new Promise((done) => setTimeout(done));
  showCards(study, cardsOf(await unpack("packed-cards")));
  performance.mark("cards");
  $("neurons").dataset.ready = "";
};
if ($("packed-table")) showNeurons().catch((error) => { $("not-unpacked").hidden = false; throw error; });
