for (const wall of document.querySelectorAll(".wall")) {
  const cards = wall.querySelector(".cards");
  const move = slider => slider.closest(".stage").style.setProperty("--x", slider.value + "%");
  for (const slider of wall.querySelectorAll(".slider")) {
    slider.addEventListener("input", () => move(slider));
  }
  wall.querySelector(".all").addEventListener("input", event => {
    for (const slider of wall.querySelectorAll(".slider")) {
      slider.value = event.target.value;
      move(slider);
    }
  });
  for (const view of wall.querySelectorAll("[type=radio]")) {
    view.addEventListener("change", () => { wall.dataset.view = view.value; });
  }
  wall.querySelector(".order")?.addEventListener("change", event => {
    const keys = { given: figure => +figure.dataset.place, up: figure => +figure.dataset.key, down: figure => -figure.dataset.key };
    const key = keys[event.target.value];
    cards.append(...[...cards.children].sort((one, other) => key(one) - key(other)));
  });
}
