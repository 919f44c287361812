// Buttons that copy the text of the element that they name.

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
      // Browsers copy for pages over https or of this machine only: for others, what is to be copied is selected.
      getSelection().selectAllChildren(text);
    }
  });
}
