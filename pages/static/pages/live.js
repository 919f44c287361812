// Update the Running runs of a page: one request fetches all of them, and changed ones are replaced.
// Requests are sent only while the page is visible, less often while nothing changes or the service fails, and until
// no run is Running.

const FIRST = 3_000;
const SLOWEST = 30_000;
const MOST = 100;
const GONE = [401, 403, 404];

const place = document.querySelector("[data-live]");
let wait = FIRST;
let timer;
let known = {};

const followed = () => [...document.querySelectorAll("[data-running]")].slice(0, MOST);

function plan() {
  clearTimeout(timer);
  if (!document.hidden && followed().length) timer = setTimeout(look, wait);
}

async function look() {
  const running = followed();
  const url = new URL(place.dataset.live, location.href);
  for (const element of running) url.searchParams.append("id", element.dataset.running);
  let changed = false;
  try {
    const headers = known.url === url.href ? { "If-None-Match": known.tag } : {};
    const response = await fetch(url, { headers, cache: "no-store", redirect: "manual" });
    if (response.type === "opaqueredirect" || GONE.includes(response.status)) {
      place.textContent = "Updates have stopped. Reload the page, and log in again if asked.";
      return;
    }
    if (response.ok) {
      known = { url: url.href, tag: response.headers.get("ETag") };
      changed = replace(running, await response.text());
    }
  } catch {
    // The service does not respond. The next request is sent later.
  }
  wait = changed ? FIRST : Math.min(wait * 1.5, SLOWEST);
  plan();
}

// Replace the runs that changed, and return whether there are any.
function replace(running, text) {
  const received = new DOMParser().parseFromString(text, "text/html");
  const said = [];
  let replaced = false;
  for (const old of running) {
    const now = received.getElementById(old.id);
    if (!now) {
      old.removeAttribute("data-running");
      said.push(`${old.dataset.says}, deleted`);
      continue;
    }
    if (old.isEqualNode(now)) continue;
    replaced = true;
    if (old.dataset.says !== now.dataset.says) {
      now.classList.add("changed");
      said.push(now.dataset.says);
    }
    const [ticked, box] = [old, now].map((element) => element.querySelector("[name=selected]"));
    if (box) Object.assign(box, { checked: ticked.checked, disabled: ticked.disabled });
    const focused = old.contains(document.activeElement) ? document.activeElement.localName : null;
    old.replaceWith(now);
    if (now.dataset.title) document.querySelector("h1").textContent = now.dataset.title;
    if (focused) now.querySelector(focused)?.focus();
  }
  if (said.length) place.textContent = `${said.join(". ")}.`;
  return replaced;
}

document.addEventListener("visibilitychange", () => {
  wait = FIRST;
  plan();
});
plan();
