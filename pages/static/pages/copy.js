// Buttons that copy the text of the element named in `data-copies`.

for (const button of document.querySelectorAll("button[data-copies]")) {
  button.hidden = false;
  const label = button.textContent;
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copies);
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = label), 2000);
    } catch {
      // Browsers allow copying only over https or on localhost. Elsewhere the text is selected, ready to be copied.
      getSelection().selectAllChildren(text);
    }
  });
}
