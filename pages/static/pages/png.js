// Buttons that download a picture as PNG: its SVG file, drawn on a canvas.
const SHARPNESS = 2;

async function pictureOf(address) {
  const loaded = await fetch(address);
  if (!loaded.ok) throw new Error(`The picture could not be loaded: ${loaded.status}.`);
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(await loaded.text())}`;
  await image.decode();
  return image;
}

function drawn(image) {
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth * SHARPNESS;
  canvas.height = image.naturalHeight * SHARPNESS;
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

async function download(button) {
  const blob = await drawn(await pictureOf(button.dataset.png));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = button.dataset.name;
  link.click();
  // Some browsers read the object URL only after a while.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

for (const button of document.querySelectorAll("button[data-png]")) {
  button.hidden = false;
  button.addEventListener("click", () => download(button));
}
