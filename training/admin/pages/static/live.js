// The list renews itself, and leaves alone whoever is typing, or walks through it.

const live = document.getElementById("live");

async function renew() {
  const busy = document.visibilityState !== "visible" || document.querySelector("dialog[open]")
    || live.contains(document.activeElement);
  if (busy) return;
  const url = new URL(window.location);
  url.searchParams.set("part", "1");
  try {
    const answer = await fetch(url, {redirect: "error"});
    if (answer.ok) live.innerHTML = await answer.text();
  } catch { /* the next round tries again */ }
}

if (live.dataset.live === "true") setInterval(renew, 5000);
