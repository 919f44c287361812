// Keep the selected runs in the page's address, and in every link to the same view.

const bar = document.querySelector("[data-selection]");
const most = Number(bar.dataset.most);
const form = document.getElementById("view");
const boxes = () => document.querySelectorAll('input[type="checkbox"][name="selected"]');

function withSelection(address, selected) {
  const url = new URL(address, location.href);
  url.searchParams.delete("selected");
  for (const id of selected) url.searchParams.append("selected", id);
  return url.href;
}

function show(selected) {
  bar.hidden = !selected.length;
  bar.querySelector("[data-count]").textContent = selected.length;
  bar.querySelector("[data-full]").hidden = selected.length < most;
  for (const box of boxes()) box.disabled = selected.length >= most && !box.checked;
}

document.addEventListener("change", ({ target }) => {
  if (target.name !== "selected") return;
  const selected = new URL(location.href).searchParams.getAll("selected").filter((id) => id !== target.value);
  if (target.checked) selected.push(target.value);
  history.replaceState(null, "", withSelection(location.href, selected));
  for (const link of document.querySelectorAll("a[data-keeps]")) link.href = withSelection(link.href, selected);
  show(selected);
});

// Leave empty fields out of the address. A condition keeps all of its three fields, in their order.
form.addEventListener("formdata", ({ formData }) => {
  const [paths, values] = ["path", "value"].map((name) => formData.getAll(name));
  let row = -1;
  const filled = [...formData].filter(([name, value]) => {
    if (name === "path") row += 1;
    return ["path", "op", "value"].includes(name) ? paths[row] || values[row] : value;
  });
  for (const name of new Set(formData.keys())) formData.delete(name);
  for (const [name, value] of filled) formData.append(name, value);
});

show(new URL(location.href).searchParams.getAll("selected"));
