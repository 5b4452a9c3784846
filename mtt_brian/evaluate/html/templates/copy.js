// A button beside a command that copies it; it is made here, so that there is none without scripts.

for (const box of document.querySelectorAll(".command")) {
  const code = box.querySelector("code");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  box.append(button);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      // A browser may refuse: then the command is selected, to be copied by hand.
      getSelection().selectAllChildren(code);
      button.textContent = "Press Ctrl+C";
    }
  });
}
