// Debian's Chromium, headless, driven by playwright-core; pages that fail their test when something is wrong with them.
import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { chromium } from "playwright-core"
import { PATIENCE, ROOT } from "./server.mjs"

export const SCREENS = join(ROOT, "out", "screens")
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8")
const FONTS = fileURLToPath(new URL("fonts.conf", import.meta.url))
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
] // prettier-ignore

let browser

// Playwright gives each launch a user data folder of its own and removes it at the end.
async function launched() {
  const env = { ...process.env, FONTCONFIG_FILE: FONTS }
  browser ??= await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS, env })
  return browser
}

export async function closeBrowser() {
  await browser?.close()
  browser = undefined
}

// A tab of its own for test `t`. At the end of the test it is closed, and the test fails if the page wrote a warning or an error to
// the console, threw, asked another host, or met its content security policy.
//   options   of browser.newContext: viewport, colorScheme, ...
//   expected  what the console may say all the same, e.g. that a server which the test killed cannot be reached
//   init      a function that runs in the page before its scripts
//   prepare   is given the page before it is opened
export async function openPage(t, url, { expected, init, prepare, ...options } = {}) {
  const context = await (await launched()).newContext({ reducedMotion: "reduce", ...options })
  t.after(() => {
    context.closing = true // what a page says while it is torn down is no fault
    return context.close()
  })
  return openTab(t, context, url, { expected, init, prepare })
}

// A further tab of the same browser window: storage of the origin is shared, that of the session is not.
export async function openTab(t, context, url, { expected = [], init, prepare } = {}) {
  const page = await context.newPage()
  if (init) await page.addInitScript(init)
  prepare?.(page)
  const faults = await watch(page, new URL(url).host, (fault) => context.closing || expected.some((pattern) => pattern.test(fault)))
  t.after(() => assert.deepEqual(faults, [], "the page is at fault"))
  page.setDefaultTimeout(PATIENCE)
  await page.goto(url)
  return page
}

// A prompt is counted in passing. While no model node can do it the answer is 503 and the page goes on without a count; that
// Chromium writes such an answer to the console no page can keep it from.
function isNoCount(message) {
  return message.location().url.endsWith("/v1/count") && message.text().includes("status of 503")
}

async function watch(page, host, excused) {
  const faults = []
  const note = (fault) => excused(fault) || faults.push(fault)
  page.on("console", (message) => {
    if (["warning", "error"].includes(message.type()) && !isNoCount(message)) note(`console: ${message.text()}`)
  })
  page.on("pageerror", (error) => note(`thrown: ${error.stack}`))
  page.on("request", (request) => {
    const url = new URL(request.url())
    if (!["blob:", "data:"].includes(url.protocol) && url.host !== host) note(`asked another host: ${url}`)
  })
  // Violations of the policy are errors on the console, and events as well.
  await page.exposeFunction("reportViolation", (text) => note(`policy: ${text}`))
  await page.addInitScript(() =>
    addEventListener("securitypolicyviolation", (event) =>
      window.reportViolation(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`),
    ),
  )
  return faults
}

// Fails where axe finds a serious or critical fault of accessibility.
export async function assertAccessible(page) {
  await page.evaluate(AXE)
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }))
  const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
  const told = serious.map(({ id, help, nodes }) => `${id}: ${help}\n  ${nodes.map((node) => `${node.html}\n    ${node.failureSummary}`).join("\n  ")}`)
  assert.deepEqual(told, [])
}

// Writes out/screens/<name>.png.
export async function screenshot(page, name, options = {}) {
  // What sticks to the top of the window belongs at the top of the whole page.
  if (options.fullPage) await page.evaluate(() => scrollTo(0, 0))
  await page.screenshot({ path: join(SCREENS, `${name}.png`), ...options })
}
