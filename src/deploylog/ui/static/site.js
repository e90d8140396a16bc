// What every page has: times in the reader's zone, the theme, and live content.

import { offerTimes, passTime, showTimes } from "./times.js";
import { followHints } from "./stream.js";
import { keepLive, swapLinks } from "./live.js";

const themeButton = document.getElementById("theme");

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function nameTheme() {
  themeButton.textContent = isDark() ? "Light" : "Dark";
  themeButton.setAttribute("aria-label", `Use the ${isDark() ? "light" : "dark"} theme`);
}

themeButton.hidden = false;
themeButton.addEventListener("click", () => {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("deploylog-theme", theme);
  nameTheme();
});
nameTheme();

document.documentElement.classList.add("scripted");
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-submit-on-change]");
  if (form) form.requestSubmit();
});
// An empty choice is left out of the address.
document.addEventListener("formdata", (event) => {
  if (event.target.method !== "get") return;
  for (const [name, value] of [...event.formData]) if (!value) event.formData.delete(name);
});

const timesChoice = document.getElementById("times");
timesChoice.parentElement.hidden = false;
offerTimes(timesChoice);

showTimes(document);
setInterval(() => passTime(document), 1000);

const { stream } = document.body.dataset;
swapLinks();
if (stream) keepLive(followHints(stream));
