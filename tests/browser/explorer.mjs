// Drives the explorer in headless Chromium: every page without an error, keyboard alone, axe, no script at all, an
// audit from the first click to the answer, and screenshots.
//
//   node explorer.mjs URL [--chromium PATH] [--shots FOLDER] [--audit]
//
// Ends with 0 if nothing was found, and prints what was found otherwise.
import { readFileSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [, , base, ...options] = process.argv;
const option = (name, otherwise) => options.includes(name) ? options[options.indexOf(name) + 1] : otherwise;
const shots = option("--shots");
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const executablePath = option("--chromium", "/usr/bin/chromium");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const faults = [];
const fault = (where, what) => faults.push(`${where}: ${what}`);

/** A tab that reports every error, every refused file and every address outside. */
async function tab(settings) {
  // The page's own rules allow no script of others, so axe is let in past them. They are still tested: see below.
  const context = await browser.newContext({ bypassCSP: true, ...settings });
  const page = await context.newPage();
  page.on("pageerror", (error) => fault(page.url(), `script error: ${error.message}`));
  page.on("console", (line) => { if (line.type() === "error") fault(page.url(), `console: ${line.text()}`); });
  page.on("request", (request) => { if (!request.url().startsWith(base)) fault(page.url(), `asks ${request.url()}`); });
  return page;
}

/** One page of each kind, by the links that lead there. */
async function kinds(page) {
  const first = async (from, selector) => {
    await page.goto(base + from);
    const link = page.locator(selector).first();
    return (await link.count()) ? await link.getAttribute("href") : null;
  };
  const found = { run: "/run", windows: "/windows", window: await first("/windows", "main td a, main th a") };
  found.miners = "/miners";
  found.miner = await first("/miners", 'main a[href^="/miner/"]');
  found.pay = await first(found.miner, 'main a[href*="/pay/"]');
  found.validator = await first("/run", 'main a[href^="/validator/"]');
  found.object = await first("/windows", 'main a[href^="/object/"]');
  found.delta = await first(found.window, 'main td a[href^="/object/"]');
  found.dataset = "/dataset";
  found.text = await first(found.pay, 'main a[href^="/dataset/training/"]') ?? "/dataset/training/0";
  found.audit = "/audit";
  found.missing = "/object/0123";
  for (const [kind, path] of Object.entries(found)) if (!path) fault(kind, "no link leads there");
  return Object.fromEntries(Object.entries(found).filter(([, path]) => path));
}

/** What axe finds: contrast, labels, landmarks, and all else that it knows. */
async function accessible(page, name) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  for (const { id, help, nodes } of violations) {
    fault(name, `axe ${id}: ${help}: ${nodes[0].html.slice(0, 160)} (${nodes.length})`);
  }
}

/** Whether the tab key alone reaches every link, field and button that can be seen. */
async function keyboard(page, name) {
  const wanted = await page.evaluate(() => {
    const all = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), summary, [tabindex='0']")];
    const seen = all.filter((element) => element.checkVisibility());
    seen.forEach((element, place) => { element.dataset.place = place; });
    return seen.length;
  });
  const reached = new Set();
  await page.evaluate(() => document.activeElement?.blur());
  for (let press = 0; press < wanted + 10 && reached.size < wanted; press++) {
    await page.keyboard.press("Tab");
    const place = await page.evaluate(() => document.activeElement?.dataset.place);
    if (place !== undefined) reached.add(place);
  }
  if (reached.size < wanted) fault(name, `the tab key reaches ${reached.size} of ${wanted}`);
}

const wide = { viewport: { width: 1280, height: 860 } };
const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 1, isMobile: true, hasTouch: true };
const page = await tab({ ...wide, colorScheme: "light" });
const places = await kinds(page);

for (const [size, settings] of [["wide", wide], ["phone", phone]]) {
  for (const colorScheme of ["light", "dark"]) {
    const page = await tab({ ...settings, colorScheme });
    for (const [kind, path] of Object.entries(places)) {
      const expected = kind === "missing" ? 404 : 200;
      // A page that is not found is an error in the console, and here it is wanted.
      const before = faults.length;
      const answer = await page.goto(base + path);
      if (kind === "missing") faults.length = before;
      const name = `${kind} (${size}, ${colorScheme})`;
      if (answer.status() !== expected) fault(name, `status ${answer.status()}`);
      await accessible(page, name);
      const over = await page.evaluate(() => {
        const root = document.documentElement;
        return root.scrollWidth - root.clientWidth;
      });
      if (over > 0) fault(name, `is ${over} pixels wider than the screen`);
      if (size === "wide" && colorScheme === "light") await keyboard(page, name);
    }
    await page.context().close();
  }
}

// The rules that pages carry, with nothing let past them: what breaks them is an error in the console.
const strict = await tab({ ...wide, bypassCSP: false });
for (const path of Object.values(places)) await strict.goto(base + path).catch(() => {});
const kept = faults.filter((line) => !line.includes("status of 404"));
faults.splice(0, faults.length, ...kept);
await strict.close();

// Scripts off: every page says the same.
const still = await tab({ ...wide, javaScriptEnabled: false });
for (const kind of ["run", "window", "miner", "audit"]) {
  await still.goto(base + places[kind]);
  if (!(await still.locator("main h1").isVisible())) fault(kind, "shows nothing without scripts");
}
await still.close();

if (options.includes("--audit")) {
  await page.goto(`${base}/audit`);
  await page.locator("button.main").click();
  const banner = page.locator(".banner.good, .banner.bad");
  // The page is not loaded again by hand: live news bring the answer.
  await banner.waitFor({ timeout: 300_000 });
  const words = await banner.textContent();
  if (!words.startsWith("Match:")) fault("audit", words);
  await accessible(page, "audit, done");
  console.log(words);
}

if (shots) {
  mkdirSync(shots, { recursive: true });
  for (const [size, settings] of [["wide", wide], ["phone", phone]]) {
    const page = await tab({ ...settings, colorScheme: size === "wide" ? "light" : "dark" });
    for (const kind of ["run", "window", "miner", "pay", "object", "audit", "validator", "text", "windows"]) {
      await page.goto(base + places[kind]);
      await page.screenshot({ path: `${shots}/${kind}-${size}.png` });
      if (kind === "run" || kind === "window" || kind === "pay") {
        await page.screenshot({ path: `${shots}/${kind}-${size}-full.png`, fullPage: true });
      }
    }
    await page.context().close();
  }
}

await browser.close();
for (const line of faults) console.log(line);
console.log(`${Object.keys(places).length} kinds of pages, ${faults.length} faults`);
process.exit(faults.length ? 1 : 0);
