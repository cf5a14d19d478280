// Keeps the numbers of the queues page fresh while it is looked at.
document.addEventListener("DOMContentLoaded", () => {
  const table = document.getElementById("spooled-queues");
  if (!table) return;
  const address = table.dataset.numbers + window.location.search;
  const refresh = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(address, { headers: { Accept: "application/json" } });
      if (!answer.ok) return;
      const { queues } = await answer.json();
      for (const row of table.querySelectorAll("tr[data-queue]")) {
        const numbers = queues[row.dataset.queue];
        if (!numbers) continue;
        for (const cell of row.querySelectorAll("td[data-state]")) {
          const state = cell.dataset.state;
          const text = state === "paused" ? (numbers.paused ? "paused" : "open") : String(numbers[state]);
          if (cell.textContent !== text) cell.textContent = text;
          if (state === "deadletter") cell.classList.toggle("spooled-bad", numbers[state] > 0);
        }
      }
    } catch {
      // The next look may succeed; until then the last numbers stay.
    }
  };
  window.setInterval(refresh, 2000);
});
