// Files into the corpus: sent with progress, then followed until each is read.

import {call, tell} from "./common.js";

const form = document.getElementById("upload");
const drop = document.getElementById("drop");
const progress = document.getElementById("progress");
const words = document.getElementById("progress-words");
const bar = document.getElementById("bar");
const outcomes = document.getElementById("outcomes");
const csrf = document.body.dataset.csrf;

const show = (text, value) => {
  progress.classList.remove("hidden");
  words.textContent = text;
  if (value === null) bar.removeAttribute("value"); else bar.value = value;
};

// Return the files of dropped entries, folders included, each with its path.
async function entries(items) {
  const found = [];
  const walk = async (entry, path) => {
    if (entry.isFile) {
      const file = await new Promise((done, failed) => entry.file(done, failed));
      found.push([file, path + entry.name]);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!some.length) return;
      for (const one of some) await walk(one, `${path}${entry.name}/`);
    }
  };
  for (const entry of [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean)) {
    await walk(entry, "");
  }
  return found;
}

// XMLHttpRequest says how much was sent; fetch does not.
function post(body, sent) {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/api/v1/uploads");
    request.setRequestHeader("X-CSRF-Token", csrf);
    request.upload.addEventListener("progress", (event) => sent(event.loaded / event.total));
    request.addEventListener("error", () => failed(new Error("The server did not answer.")));
    request.addEventListener("load", () => {
      let said = {};
      try { said = JSON.parse(request.responseText); } catch { /* its status says enough */ }
      if (request.status < 300) done(said);
      else failed(new Error(said.detail || `The server refused (status ${request.status}).`));
    });
    request.send(body);
  });
}

async function take(files) {
  if (!files.length) return;
  document.getElementById("message")?.remove();
  const body = new FormData();
  for (const [name, value] of new FormData(form)) if (value && typeof value === "string") body.append(name, value);
  for (const [file, path] of files) body.append("files", file, path);
  try {
    const made = await post(body, (part) => show(`Sending ${files.length} files…`, part));
    await followed(made);
  } catch (error) {
    progress.classList.add("hidden");
    tell(error.message);
  }
}

async function followed(upload) {
  for (;;) {
    const read = upload.outcomes.length;
    show(`Read ${read} of ${upload.total || "…"} files`, upload.total ? read / upload.total : null);
    if (upload.state === "DONE" || upload.state === "FAILED") break;
    await new Promise((done) => { setTimeout(done, 400); });
    upload = await call("GET", `/api/v1/uploads/${upload.id}`);
  }
  const answer = await fetch(`/upload/${upload.id}?part=1`);
  outcomes.innerHTML = await answer.text();
  const said = Object.entries(upload.counts).map(([fate, count]) => `${count} ${fate}`).join(", ");
  tell(upload.state === "DONE" ? `Done: ${said}.` : upload.message, upload.state === "DONE" ? "fine" : "wrong");
  show(`Read ${upload.outcomes.length} files`, 1);
}

for (const [button, input] of [["choose", "files"], ["choose-folder", "folder"]]) {
  const field = document.getElementById(input);
  document.getElementById(button).addEventListener("click", (event) => { event.stopPropagation(); field.click(); });
  field.addEventListener("change", () => {
    take([...field.files].map((file) => [file, file.webkitRelativePath || file.name]));
    field.value = "";
  });
}
drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", async (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const plain = [...event.dataTransfer.files].map((file) => [file, file.name]);
  const found = await entries(event.dataTransfer.items);
  take(found.length ? found : plain);
});
drop.addEventListener("keydown", (event) => {
  if (event.target === drop && (event.key === "Enter" || event.key === " ")) document.getElementById("files").click();
});
