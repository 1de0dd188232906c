// The words around our screens in Japanese. Loaded by Prefect's UI; the dictionary is put in front
// of this file by deployments/frame/__init__.py as `appConnectWords`.
(() => {
  "use strict";
  const KEY = "app-connect-language";
  const { words, patterns, names, generated, version, hidden, menu, blank } = appConnectWords;
  const here = document.currentScript.src; // our pages lie beside this file
  const rules = patterns.map((rule) => ({ match: new RegExp(rule.match, "s"), ja: rule.ja }));
  const madeUp = new RegExp(generated.match);
  const versionId = new RegExp(version.match);
  const MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec";
  // What a person typed, what a program wrote, and code are never touched.
  const KEEP =
    "script, style, code, pre, textarea, .cm-editor, [contenteditable], [data-app-connect-keep]," +
    " [role='log'], .prose";
  const ATTRIBUTES = ["placeholder", "aria-label", "title", "alt"];

  let language = "ja";
  try {
    language = localStorage.getItem(KEY) || "ja";
  } catch {
    // A browser that keeps nothing shows Japanese.
  }

  function month(name) {
    return String(MONTHS.indexOf(name.slice(0, 3)) / 3 + 1).padStart(2, "0");
  }

  function clock(hour, minute, second, half) {
    const full = (Number(hour) % 12) + (half === "PM" ? 12 : 0);
    const time = `${String(full).padStart(2, "0")}:${minute}`;
    return second === undefined ? time : `${time}:${second}`;
  }

  function fill(template, groups) {
    const numbered = (list) => list.split(",").map((n) => (n === "0" ? undefined : groups[n]));
    return template
      .replace(/\{date:([\d,]+)\}/g, (_, list) => {
        const [name, day, year] = numbered(list);
        const monthly = `${year}/${month(name)}`;
        return day === undefined ? monthly : `${monthly}/${day.padStart(2, "0")}`;
      })
      .replace(/\{time:([\d,]+)\}/g, (_, list) => clock(...numbered(list)))
      .replace(/\{word:(\d)\}/g, (_, n) => lookUp(groups[n]) ?? groups[n])
      .replace(/\$(\d)/g, (_, n) => groups[n] ?? "");
  }

  function lookUp(text) {
    if (Object.hasOwn(words, text)) return words[text];
    if (Object.hasOwn(names, text)) return names[text];
    for (const rule of rules) {
      const groups = rule.match.exec(text);
      if (groups !== null) return fill(rule.ja, groups);
    }
    return undefined;
  }

  function translated(text, element) {
    const key = text.trim().replace(/\s+/g, " ");
    if (!/[A-Za-z]/.test(key) && !versionId.test(key)) return undefined;
    const onItsPage = location.pathname.includes(generated.link) ? generated.heading : "";
    const named = [`a[href*="${generated.link}"]`, generated.notice, onItsPage].filter(Boolean).join();
    const known = Object.hasOwn(words, key) || Object.hasOwn(names, key); // tags, beside the name
    if (!known && madeUp.test(key) && element.closest(named)) return generated.ja;
    if (versionId.test(key) && element.closest(`a[href*="${version.link}"]`)) return version.ja;
    return lookUp(key);
  }

  function doText(node) {
    const parent = node.parentElement;
    if (parent === null || parent.closest(KEEP)) return;
    const entry = hidden.words.includes(node.nodeValue) && parent.closest(hidden.within);
    if (entry) entry.style.display = "none";
    if (language !== "ja") return;
    const ja = translated(node.nodeValue, parent);
    // Our own words are found by nobody: they hold no key of the dictionary.
    if (ja !== undefined && ja !== node.nodeValue) node.nodeValue = ja;
  }

  function doAttributes(element) {
    if (language !== "ja" || element.closest(KEEP)) return;
    for (const name of ATTRIBUTES) {
      const value = element.getAttribute(name);
      if (!value) continue;
      const ja = translated(value, element);
      if (ja !== undefined && ja !== value) element.setAttribute(name, ja);
    }
  }

  function doAll(root) {
    if (root.nodeType === Node.TEXT_NODE) return doText(root);
    if (root.nodeType !== Node.ELEMENT_NODE) return undefined;
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
    for (let node = root; node !== null; node = walker.nextNode()) {
      if (node.nodeType === Node.TEXT_NODE) doText(node);
      else doAttributes(node);
    }
    return undefined;
  }

  function addSwitch() {
    // Beside the logo: nothing of the pages lies there, whatever their length.
    const button = document.createElement("button");
    button.id = "app-connect-language";
    button.type = "button";
    button.textContent = language === "ja" ? "English" : "日本語";
    button.lang = language === "ja" ? "en" : "ja";
    button.dataset.appConnectKeep = "";
    button.style.cssText =
      "position:fixed;left:160px;top:22px;z-index:40;padding:4px 10px;font:12px sans-serif;" +
      "border:1px solid #9ca3af;border-radius:6px;background:#fff;color:#1f2937;opacity:.85";
    button.addEventListener("click", () => {
      localStorage.setItem(KEY, language === "ja" ? "en" : "ja");
      location.reload();
    });
    document.body.append(button);
  }

  function addMenu() {
    // Prefect's own menu has no way to the results, which are where a clerk looks first.
    if (document.querySelector("[data-app-connect-menu]")) return;
    const known = document.querySelector(`[data-sidebar="menu"] a[href$="${menu.after}"]`);
    if (known === null) return;
    let last = known.closest("li");
    for (const entry of menu.entries) {
      const item = known.closest("li").cloneNode(true);
      last.after(item);
      const link = item.querySelector("a");
      link.href = known.getAttribute("href").replace(menu.after, entry.path);
      link.dataset.appConnectMenu = "";
      link.dataset.appConnectKeep = "";
      link.removeAttribute("data-status");
      link.removeAttribute("aria-current");
      const button = link.querySelector("[data-sidebar]") ?? link;
      button.dataset.active = "false";
      button.textContent = entry[language === "ja" ? "ja" : "en"];
      last = item;
    }
  }

  function muteFormsBehind(event) {
    // 「追加」 in a form opens the block's own form in a dialog. In the page it lies elsewhere, but
    // React hands its submit event on to the form behind: 「作成」 would submit that, too, and start
    // a run before the new block is chosen. While the event is on its way, the others are deaf.
    const own = event.target;
    if (!(own instanceof HTMLFormElement) || own.closest("[role='dialog']") === null) return;
    const key = Object.keys(own).find((name) => name.startsWith("__reactProps$"));
    if (typeof own[key]?.onSubmit !== "function") return;
    for (const form of document.forms) {
      const props = form[key];
      if (form === own || typeof props?.onSubmit !== "function") continue;
      const deaf = { ...props, onSubmit: undefined };
      form[key] = deaf;
      setTimeout(() => {
        // Unless React has drawn the form anew meanwhile.
        if (form[key] === deaf) form[key] = props;
      });
    }
  }

  function helpWhenBlank() {
    // The browser may have kept a page whose programs are gone since an upgrade of Prefect.
    const root = document.getElementById("root");
    if (root === null || root.childElementCount > 0) return;
    const help = document.createElement("p");
    help.lang = "ja";
    help.style.cssText = "margin:30vh auto 0;max-width:38rem;padding:1rem;font:16px/1.8 sans-serif";
    const link = document.createElement("a");
    link.href = new URL(blank.page, here).href;
    link.textContent = blank.link;
    help.append(blank.text, link);
    document.body.append(help);
    new MutationObserver((_, observer) => {
      observer.disconnect();
      help.remove();
    }).observe(root, { childList: true });
  }

  function begin() {
    addSwitch();
    addMenu();
    if (language === "ja") {
      document.documentElement.lang = "ja";
      // Machine translation by the browser on top of this one would only spoil it.
      document.documentElement.translate = false;
    }
    setTimeout(helpWhenBlank, blank.seconds * 1000);
    doAll(document.body);
    new MutationObserver((changes) => {
      addMenu();
      for (const change of changes) {
        if (change.type === "childList") change.addedNodes.forEach(doAll);
        else if (change.type === "characterData") doText(change.target);
        else doAttributes(change.target);
      }
    }).observe(document.body, {
      subtree: true,
      childList: true,
      characterData: true,
      attributes: true,
      attributeFilter: ATTRIBUTES,
    });
  }

  // First of all listeners; a later React without these names only finds nothing to do here.
  addEventListener("submit", muteFormsBehind, true);
  if (document.body) begin();
  else addEventListener("DOMContentLoaded", begin);
})();
