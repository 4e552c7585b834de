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
