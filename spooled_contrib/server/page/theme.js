// Before anything is painted: the theme that was chosen here, if one was. Otherwise the system's is used.
try {
  const chosen = localStorage.getItem("spooled-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage can be forbidden; then the choice is not remembered.
}
