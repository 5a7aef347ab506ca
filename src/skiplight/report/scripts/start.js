// Draws the page, and says on <html> when it stands.

setUpTheme();
show();
requestAnimationFrame(() => requestAnimationFrame(() => { document.documentElement.dataset.ready = ""; }));
