// Of the list of folders: a click goes into one, and has it be the one that is typed.
async function show(path) {
  const found = await server.list_folders(path);
  const list = element.querySelector(".wb-folders");
  list.replaceChildren();
  element.querySelector(".wb-quiet").textContent = found.told;
  const add = (name, note, target) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.path = target;
    button.append(name);
    const span = document.createElement("span");
    span.append(note);
    button.append(span);
    list.append(button);
  };
  if (found.parent) add("↑ up", "", found.parent);
  for (const folder of found.folders) add(folder.name, folder.told, folder.path);
}
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-path]");
  if (!button) return;
  show(button.dataset.path);
  trigger("select", { folder: button.dataset.path });
});
show("");
