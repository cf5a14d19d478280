// Browsers carry the part after # over the redirect that follows: one comes back to the view one was sent away from.
for (const form of document.forms) if (location.hash.startsWith("#/")) form.action = `/login${location.hash}`;
