import {call} from "./common.js";

const form = document.getElementById("signin");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const {name, password, key} = Object.fromEntries(new FormData(form));
  const output = form.querySelector("output");
  output.textContent = "";
  try {
    await call("POST", "/api/v1/session", key ? {key} : {name, password});
    const next = form.dataset.next;
    window.location.assign(next.startsWith("/") && !next.startsWith("//") ? next : "/");
  } catch (error) {
    output.textContent = error.message;
  }
});
