// Sets the chosen theme before the first paint. Without a choice, the system's applies.
const theme = localStorage.getItem("deploylog-theme");
if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
