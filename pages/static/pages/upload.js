// Inputs for a file with at most `data-max-bytes`. A larger one is refused before it is sent.

for (const input of document.querySelectorAll("input[data-max-bytes]")) {
  input.addEventListener("change", () => {
    const isTooLarge = [...input.files].some(file => file.size > Number(input.dataset.maxBytes));
    input.setCustomValidity(isTooLarge ? input.dataset.tooLarge : "");
    input.reportValidity();
  });
}
