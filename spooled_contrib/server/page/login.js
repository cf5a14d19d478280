// Browsers carry the part after # over the redirect that follows: one comes back to the view one was sent away from.
if (location.hash.startsWith("#/")) for (const form of document.forms) form.action = `/login${location.hash}`;

// Whoever follows a link from another site arrives without the cookie, as it is strict. From here it is sent.
if (!location.search && !document.querySelector("[role=alert]")) {
  const answer = await fetch("/page/session", { cache: "no-store" });
  if (answer.ok) location.replace(`/${location.hash}`);
}
