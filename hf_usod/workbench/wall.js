// Of the wall of labels: clicks and keys become decisions, shown at once and kept by the server.
const cards = () => [...element.querySelectorAll(".wb-card")];
const current = () => element.querySelector(".wb-current");

function mark(card) {
  current()?.classList.remove("wb-current");
  card?.classList.add("wb-current");
  card?.scrollIntoView({ block: "nearest" });
}

async function say(card, decision) {
  const wall = card.closest(".wb-review");
  const before = card.dataset.decision;
  const said = before === decision ? "" : decision; // the same again takes it back
  card.dataset.decision = said;
  const { root, labels } = wall.dataset;
  try {
    wall.querySelector(".wb-counts").textContent = await server.decide({ root, labels, id: card.dataset.id, decision: said });
  } catch (error) {
    card.dataset.decision = before;
    wall.querySelector(".wb-counts").textContent = "The workbench does not answer. Is it still running?";
  }
}

element.addEventListener("click", (event) => {
  const card = event.target.closest(".wb-card");
  if (!card) return;
  mark(card);
  const button = event.target.closest("[data-say]");
  if (button) say(card, button.dataset.say);
});

function keyed(event) {
  if (!element.isConnected) return document.removeEventListener("keydown", keyed);
  const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !element.offsetParent) return;
  const all = cards();
  if (!all.length) return;
  const place = all.indexOf(current());
  const columns = all.filter((card) => card.offsetTop === all[0].offsetTop).length;
  const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
  const decision = { g: "good", d: "drop", s: "swap" }[event.key.toLowerCase()];
  if (event.key in moves) {
    mark(all[Math.max(0, Math.min(all.length - 1, place < 0 ? 0 : place + moves[event.key]))]);
  } else if (decision) {
    const card = all[Math.max(0, place)];
    say(card, decision);
    mark(all[Math.min(all.length - 1, Math.max(0, place) + 1)]);
  } else return;
  event.preventDefault();
}
document.addEventListener("keydown", keyed);
