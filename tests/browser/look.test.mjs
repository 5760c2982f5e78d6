// Every view on a phone and on a wide screen, light and dark: nothing sticks out, nothing is hard to reach. Pictures land in out/screens.
import assert from "node:assert/strict"
import { test } from "node:test"
import { assertAccessible, screenshot } from "./harness/browser.mjs"
import { completed, current, newest, openStudio, state } from "./harness/studio.mjs"
import { fullServer, toyServer } from "./harness/suite.mjs"

const SIZES = { wide: { width: 1920, height: 1080 }, phone: { width: 360, height: 780 } }
const TITLES = { understand: "Understand", image: "Image", video: "Video", story: "Story", gallery: "Gallery" }

async function makeSomething(page) {
  const view = current(page)
  await view.getByLabel("Prompt", { exact: true }).fill("a red balloon over the sea, with a description so long that it needs more than one line")
  await view.getByLabel("Steps").fill("4")
  await view.getByRole("button", { name: "Make the image" }).click()
  await completed(page)
}

// What is cut off at the right can be reached by nobody.
async function assertFits(page) {
  const { wide, shown } = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth, shown: document.documentElement.clientWidth }))
  assert.ok(wide <= shown, `${wide} px in ${shown} px`)
  const out = await page.evaluate(() =>
    [...document.querySelectorAll("section.view:not([hidden]) *, header *")]
      .filter((element) => element.checkVisibility?.() && element.getBoundingClientRect().right > innerWidth + 1 && !element.closest(".hidden, nav"))
      .map((element) => element.outerHTML.slice(0, 120)),
  )
  assert.deepEqual(out, [])
}

for (const [size, viewport] of Object.entries(SIZES)) {
  for (const colorScheme of ["light", "dark"]) {
    test(`every view looks as it should: ${size}, ${colorScheme}`, async (t) => {
      const { url } = await fullServer()
      const page = await openStudio(t, url, "image", { viewport, colorScheme })
      await makeSomething(page)
      for (const [slug, title] of Object.entries(TITLES)) {
        await page.getByRole("navigation").getByRole("link", { name: title }).click()
        await current(page).getByRole("heading", { name: title, exact: true }).waitFor()
        if (slug === "gallery") await current(page).locator(".tile img").first().evaluate((image) => image.decode())
        await assertFits(page)
        await assertAccessible(page)
        await screenshot(page, `studio-${slug}-${size}-${colorScheme}`)
      }
    })
  }
}

test("with the keyboard alone: skip the navigation, choose a tool, run, cancel; what happens is said aloud", async (t) => {
  const { url } = await toyServer()
  const page = await openStudio(t, url, "gallery", { init: listenAloud })
  const focused = () => page.evaluate(() => document.activeElement.textContent || document.activeElement.name || document.activeElement.id)
  await page.keyboard.press("Tab")
  assert.equal(await focused(), "Skip to the content")
  await page.keyboard.press("Enter")
  assert.equal(await page.evaluate(() => document.activeElement.id), "main")
  await current(page).getByRole("heading", { name: "Gallery" }).waitFor()

  await page.getByRole("link", { name: "Toy run" }).focus()
  await page.keyboard.press("Enter")
  await page.waitForFunction(() => document.activeElement.tagName === "H1" && document.activeElement.textContent === "Toy run")
  for (let presses = 0; (await focused()) !== "steps"; presses++) {
    assert.ok(presses < 10, "the first field is soon reached")
    await page.keyboard.press("Tab")
  }
  await page.keyboard.press("ControlOrMeta+A")
  await page.keyboard.type("2000")
  await page.keyboard.press("Tab")
  await page.keyboard.type("20")
  await page.keyboard.press("Enter")
  await state(newest(page), "running").waitFor()
  await newest(page).getByRole("button", { name: "Cancel" }).focus()
  await page.keyboard.press("Enter")
  await state(newest(page), "cancelled").waitFor()
  const said = await page.evaluate(() => window.said)
  assert.deepEqual(said.filter((text) => /accepted|Running|Cancelled/.test(text)), ["The job is accepted.", "Toy run: Running.", "Toy run: Cancelled."])
})

// Runs in the page: whatever its live regions say.
function listenAloud() {
  window.said = []
  document.addEventListener("DOMContentLoaded", () => {
    const announcer = document.querySelector("[aria-live=polite]")
    new MutationObserver(() => window.said.push(announcer.textContent)).observe(announcer, { childList: true })
  })
}
